//! The S3 client as narwharf sets it up, but without retries and without its own
//! guard against stalls: a fault should be seen, neither healed nor played by the client.

use std::time::Duration;

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::{Client, Config};
use aws_smithy_http_client::tls;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::r2sim::R2Sim;

/// A client of `sim` with its own credentials.
pub fn client(sim: &R2Sim) -> Client {
    let credentials = sim.credentials();
    client_as(
        sim,
        &credentials.access_key_id,
        &credentials.secret_access_key,
    )
}

pub fn client_as(sim: &R2Sim, access_key: &str, secret_key: &str) -> Client {
    Client::from_conf(settings(sim, access_key, secret_key).build())
}

/// The settings, for a test that wants one of them otherwise.
pub fn settings(sim: &R2Sim, access_key: &str, secret_key: &str) -> aws_sdk_s3::config::Builder {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(
            tls::rustls_provider::CryptoMode::Ring,
        ))
        .build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .build();
    Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(http)
        .region(Region::new("auto"))
        .endpoint_url(sim.endpoint())
        .force_path_style(true)
        .credentials_provider(Credentials::new(
            access_key, secret_key, None, None, "selftest",
        ))
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
}

/// Status and code of an answer that is an error; 0 where there was no answer at all.
pub fn refusal<E>(error: &SdkError<E, HttpResponse>) -> (u16, String)
where
    SdkError<E, HttpResponse>: ProvideErrorMetadata,
{
    let status = error
        .raw_response()
        .map_or(0, |answer| answer.status().as_u16());
    (status, error.code().unwrap_or("").to_owned())
}
