//! `ModelStreamInfer`: requests of one stream are answered one after the other, in their order.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::infer::infer;
use super::inference::{ModelInferRequest, ModelInferResponse, ModelStreamInferResponse};
use crate::serving::Serving;

/// What goes back.
pub(super) type Answers = ReceiverStream<Result<ModelStreamInferResponse, Status>>;

/// An answer that waits to be sent; a client that does not read is not worked for.
const WAITING: usize = 1;

/// Answers every request of the stream; an error is an answer, too, and the stream goes on.
pub(super) fn answers(
    serving: Arc<Serving>,
    mut requests: Streaming<ModelInferRequest>,
) -> Answers {
    let (sender, answers) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        loop {
            let request = tokio::select! {
                request = requests.message() => request,
                () = sender.closed() => return,
            };
            let answer = match request {
                Ok(Some(request)) => Ok(answer(&serving, request).await),
                Ok(None) => return,
                Err(status) => Err(status),
            };
            let over = answer.is_err();
            if sender.send(answer).await.is_err() || over {
                return;
            }
        }
    });
    ReceiverStream::new(answers)
}

async fn answer(serving: &Serving, request: ModelInferRequest) -> ModelStreamInferResponse {
    let id = request.id.clone();
    match infer(serving, request).await {
        Ok(response) => ModelStreamInferResponse {
            error_message: String::new(),
            infer_response: Some(response),
        },
        // The id says which request it was.
        Err(error) => ModelStreamInferResponse {
            error_message: error.text,
            infer_response: Some(ModelInferResponse { id, ..Default::default() }),
        },
    }
}
