//! The floor: actix with a handler that looks at nothing and gives one answer that was recorded from
//! narwharf, in a process of its own and with narwharf's allocator.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{App, HttpResponse, HttpServer, web};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::cores;

/// The first argument with which this program is that server.
pub const WORD: &str = "serve-bare";

/// Written by the server itself.
const OF_THE_SERVER: [&str; 3] = ["content-length", "date", "connection"];

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

pub fn command(folder: &Path, address: SocketAddr, answer: &Answer) -> io::Result<Command> {
    let file = folder.join("answer.json");
    fs::write(&file, serde_json::to_vec(answer)?)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(WORD).arg(address.to_string()).arg(file);
    Ok(command)
}

/// Serves until it is told to end.
pub fn serve(address: &str, file: &str) -> io::Result<()> {
    let answer: Answer = serde_json::from_reader(File::open(file)?)?;
    let ready = web::Data::new(Ready::from(answer));
    actix_web::rt::System::new().block_on(
        HttpServer::new(move || {
            App::new()
                .app_data(ready.clone())
                .default_service(web::to(handle))
        })
        .workers(cores())
        .keep_alive(Duration::from_secs(120))
        .shutdown_timeout(1)
        .bind(address)?
        .run(),
    )
}

/// The answer with nothing left to be done for a request but to copy it.
struct Ready {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl From<Answer> for Ready {
    fn from(answer: Answer) -> Self {
        let headers = answer
            .headers
            .iter()
            .filter(|(name, _)| !OF_THE_SERVER.contains(&name.as_str()))
            .map(|(name, value)| {
                let name = HeaderName::try_from(name.as_str()).expect("a name that was received");
                (
                    name,
                    HeaderValue::try_from(value).expect("a value that was received"),
                )
            });
        Self {
            status: StatusCode::from_u16(answer.status).expect("a status that was received"),
            headers: headers.collect(),
            body: answer.body.into(),
        }
    }
}

async fn handle(ready: web::Data<Ready>) -> HttpResponse {
    let mut response = HttpResponse::build(ready.status);
    for (name, value) in &ready.headers {
        response.insert_header((name, value));
    }
    response.body(ready.body.clone())
}
