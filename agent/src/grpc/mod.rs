//! The same answers over gRPC: `inference.GRPCInferenceService`, without encryption.
//!
//! Requests are checked by the rules of [`crate::protocol`], as over HTTP, and are refused in the
//! same words. Raw inputs are answered with raw outputs, typed ones with typed ones.
//!
//! # Source
//! The Open Inference Protocol, `specification/protocol/inference_grpc.md`, and Triton's
//! `grpc_service.proto`.

mod contents;
mod describe;
mod infer;
// Made from inference.proto by generate.sh.
#[allow(dead_code, missing_docs, clippy::all)]
mod inference;
mod status;
mod stream;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;

use tokio::net::TcpListener;
use tonic::codec::CompressionEncoding::{Deflate, Gzip};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::http::Facts;
use crate::protocol::{ApiError, NO_LOADING};
use crate::serving::Serving;
use inference::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use inference::*;

/// Answers on `listener` until `stop` is ready, then finishes what has begun.
///
/// # Errors
/// Those of the listener.
pub async fn serve(
    listener: TcpListener,
    serving: Arc<Serving>,
    facts: Facts,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let bytes_max = facts.body_bytes_max;
    let service = GrpcInferenceServiceServer::new(Service { serving, facts })
        .max_decoding_message_size(bytes_max)
        .accept_compressed(Gzip)
        .accept_compressed(Deflate)
        .send_compressed(Gzip)
        .send_compressed(Deflate);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = Server::builder().add_service(service);
    serving.serve_with_incoming_shutdown(incoming, stop).await.map_err(std::io::Error::other)
}

struct Service {
    serving: Arc<Serving>,
    facts: Facts,
}

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(result: Result<T, ApiError>) -> Answer<T> {
    result.map(Response::new).map_err(status::of)
}

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Answer<ServerLiveResponse> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Answer<ServerReadyResponse> {
        Ok(Response::new(ServerReadyResponse { ready: self.serving.is_ready() }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Answer<ModelReadyResponse> {
        let ModelReadyRequest { name, version } = request.into_inner();
        // A model that is not here is not ready, which is what was asked.
        let ready = self.serving.turn(&name, describe::given(&version)).is_ok();
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Answer<ServerMetadataResponse> {
        Ok(Response::new(describe::server(&self.facts)))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Answer<ModelMetadataResponse> {
        answer(describe::model(&self.serving, &request.into_inner()))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Answer<ModelConfigResponse> {
        answer(describe::configuration(&self.serving, &request.into_inner()))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Answer<ModelStatisticsResponse> {
        answer(describe::statistics(&self.serving, &request.into_inner()))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Answer<RepositoryIndexResponse> {
        Ok(Response::new(describe::index(&self.serving, &request.into_inner())))
    }

    async fn repository_model_load(
        &self,
        _: Request<RepositoryModelLoadRequest>,
    ) -> Answer<RepositoryModelLoadResponse> {
        Err(Status::permission_denied(NO_LOADING))
    }

    async fn repository_model_unload(
        &self,
        _: Request<RepositoryModelUnloadRequest>,
    ) -> Answer<RepositoryModelUnloadResponse> {
        Err(Status::permission_denied(NO_LOADING))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Answer<ModelInferResponse> {
        answer(infer::infer(&self.serving, request.into_inner()).await)
    }

    type ModelStreamInferStream = stream::Answers;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Answer<Self::ModelStreamInferStream> {
        Ok(Response::new(stream::answers(Arc::clone(&self.serving), request.into_inner())))
    }
}
