//! A text that is written for one request.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::ask::{Ask, InferError};
use super::batch::broke_off;
use super::clock;
use super::metrics::Refusal;
use super::statistics::Parts;
use super::turn::{Took, Turn};
use crate::engine::{Continuation, Ending, Prompt, Tensor, Values};

impl Turn {
    /// Has a text written, and counts it. `read` gets it piece by piece, on another thread; see
    /// [`Reader`](crate::engine::Reader).
    ///
    /// Waits while another text is written by this model; a deadline that the prompt sets holds for
    /// both, waiting and writing.
    ///
    /// # Errors
    /// [`InferError`]. A deadline that passes amid the text is no error but its ending.
    pub async fn write(
        &self,
        prompt: Prompt,
        read: impl FnMut(&str) -> ControlFlow<()> + Send + 'static,
    ) -> Result<Continuation, InferError> {
        let arrived = Instant::now();
        let written = self.write_beside(prompt, read, arrived).await;
        match &written {
            Ok(Continuation { ending: Ending::Deadline, .. }) => {
                self.service.tally.failed(arrived.elapsed());
                self.refused(Refusal::Deadline);
            }
            Ok(_) => {}
            Err(error) => self.count_failure(error, arrived),
        }
        written
    }

    async fn write_beside(
        &self,
        prompt: Prompt,
        mut read: impl FnMut(&str) -> ControlFlow<()> + Send + 'static,
        arrived: Instant,
    ) -> Result<Continuation, InferError> {
        let queue = &self.service.queue;
        let worker = queue.worker(prompt.deadline.or_else(|| queue.deadline(arrived))).await?;
        let mut turn = self.clone();
        if prompt != Prompt::greedy(prompt.text.as_str()) {
            // The candidate would be asked without these wishes, and blamed for another text.
            turn.shadow = None;
        }
        let task = tokio::task::spawn_blocking(move || {
            let written = turn.write_here(prompt, &mut read, arrived);
            drop(worker);
            written
        });
        task.await.unwrap_or_else(|_| Err(broke_off()))
    }

    fn write_here(
        &self,
        prompt: Prompt,
        read: &mut dyn FnMut(&str) -> ControlFlow<()>,
        arrived: Instant,
    ) -> Result<Continuation, InferError> {
        let (service, begun) = (&self.service, Instant::now());
        service.metrics.waited.observe(arrived.elapsed().as_secs_f64());
        let cpu_begun = clock::thread_cpu_ns();
        let result = service.loaded.engine.generate(&prompt, read);
        let cpu_ns = clock::thread_cpu_ns().saturating_sub(cpu_begun);
        let (ran, wall) = (Instant::now(), begun.elapsed());
        service.queue.ran(wall);
        let written = result.inspect_err(|_| service.books.observe_error())?;
        if matches!(written.ending, Ending::Deadline | Ending::Unread) {
            // Half a text says nothing of the model.
            return Ok(written);
        }
        let row = |text: &str| Tensor {
            shape: vec![1],
            values: Values::Bytes(vec![text.as_bytes().to_vec()]),
        };
        let ask = Ask::new(vec![row(&prompt.text)], 1);
        self.finish(ask, vec![row(&written.text)], &Took { wall, cpu_ns })?;
        let parts = Parts { input: Duration::ZERO, infer: wall, output: ran.elapsed() };
        service.tally.ran(1, &parts, clock::unix_ms());
        service.tally.answered(1, begun.saturating_duration_since(arrived), &parts);
        Ok(written)
    }
}
