//! Where in S3 the bucket is, found once.
//!
//! The SDK works this out anew for each request, and twice: its rules look at the key as well,
//! though for a bucket named in the path it makes no difference, and so its own memory of the last
//! answer never serves.

use aws_sdk_s3::config::Region;
use aws_sdk_s3::config::endpoint::{
    DefaultResolver, Endpoint, EndpointFuture, Params, ResolveEndpoint,
};
use futures_util::FutureExt;

use super::Access;

/// The one endpoint of a client whose requests are all for one bucket.
#[derive(Debug)]
pub struct Place(Endpoint);

impl Place {
    /// `None`: the SDK's rules find nothing, and are to say so themselves with each request.
    pub fn find(access: &Access<'_>, region: &Region) -> Option<Self> {
        let params = Params::builder()
            .bucket(access.bucket)
            .endpoint(access.endpoint.as_str())
            .region(region.as_ref())
            .force_path_style(true)
            .build();
        let rules = DefaultResolver::new();
        let found = ResolveEndpoint::resolve_endpoint(&rules, &params.ok()?).now_or_never()?;
        // A bucket of another kind, S3 Express, has sessions, whose requests go by other rules.
        let found = found
            .ok()
            .filter(|it| !it.properties().contains_key("backend"));
        found.map(Self)
    }
}

impl ResolveEndpoint for Place {
    fn resolve_endpoint<'a>(&'a self, _: &'a Params) -> EndpointFuture<'a> {
        EndpointFuture::ready(Ok(self.0.clone()))
    }
}
