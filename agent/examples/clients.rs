//! The local API with the digits model and an echo of every element type, for clients in other
//! languages: `agent/tests/clients/run.sh`.
//!
//! Prints one line of JSON with its addresses, and ends when its standard input does.
#![allow(missing_docs)]

#[path = "../tests/digits/mod.rs"]
mod digits;
#[path = "../tests/echo/mod.rs"]
mod echo;

use std::future::pending;

use serde_json::json;
use tidegate_agent::http::{self, Facts, UnixSocket};
use tidegate_agent::{grpc, serving::Serving};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let (windows, _closed) = mpsc::channel(1024);
    let serving = Serving::new(windows, 7);
    serving.activate(&digits::model_name(), digits::loaded("1.1.0"));
    serving.activate(&echo::model_name(), echo::loaded());
    let facts = Facts { body_bytes_max: 1 << 20, ..Facts::default() };
    let router = http::router(serving.clone(), facts.clone());
    let tcp = TcpListener::bind("127.0.0.1:0").await?;
    let over_grpc = TcpListener::bind("127.0.0.1:0").await?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("api.sock");
    let (unix, _file) = UnixSocket::bind(&path, 0o600).map_err(std::io::Error::other)?.into_parts();
    let (http_at, grpc_at) = (tcp.local_addr()?, over_grpc.local_addr()?);
    println!("{}", json!({"http": http_at, "grpc": grpc_at, "unix": path}));
    tokio::spawn(http::serve(tcp, router.clone(), pending()));
    tokio::spawn(http::serve_unix(unix, router, pending()));
    tokio::spawn(grpc::serve(over_grpc, serving, facts, pending()));
    let mut end = Vec::new();
    tokio::io::stdin().read_to_end(&mut end).await?;
    Ok(())
}
