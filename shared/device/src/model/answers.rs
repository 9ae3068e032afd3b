//! What came of work, gates and deadlines, as events of the machine.

use alloc::string::String;

use tidegate_disk::Disk;
use tidegate_lifecycle::Event;
use tidegate_lifecycle::gates::Verdict;
use tidegate_trust::codec::Codec;
use tidegate_wire::Digest;

use super::{Model, News};
use crate::context::Context;
use crate::effect::{Effect, Epoch, Gate};
use crate::input::{Fault, Outcome};
use crate::spool::SpoolStore;

impl Model {
    /// Takes what came of a piece of work.
    pub(crate) fn answered(
        &mut self,
        ctx: &mut Context<impl Disk, impl SpoolStore, impl Codec>,
        epoch: Epoch,
        outcome: Outcome,
    ) {
        self.waiting.push_back(News::Answer { epoch, outcome });
        self.work_off(ctx);
    }

    /// What should answer cannot be loaded; `still` answers, as before.
    pub(crate) fn activation_failed(
        &mut self,
        ctx: &mut Context<impl Disk, impl SpoolStore, impl Codec>,
        artifact: Digest,
        still: Option<Digest>,
        fault: Fault,
    ) {
        if self.answering == Some(artifact) {
            self.answering = still;
            self.absence = None;
        }
        self.waiting.push_back(News::ActivationFailed { artifact, fault });
        self.work_off(ctx);
    }

    /// What news mean for the machine, unless they are about what was let go meanwhile.
    pub(super) fn event_of(&mut self, news: News) -> Option<Event> {
        match news {
            News::Event(event) => Some(event),
            News::Answer { epoch, outcome } => (epoch == self.epoch).then(|| self.outcome(outcome)),
            News::ActivationFailed { artifact, fault } => {
                let counts = self.machine.active().is_some_and(|(_, active)| active == artifact);
                counts.then_some(Event::ActiveFailed(fault.reason))
            }
        }
    }

    fn outcome(&mut self, outcome: Outcome) -> Event {
        match outcome {
            Outcome::Fetched(fetched) => {
                self.downloading = false;
                match fetched {
                    Ok(()) => Event::FetchFinished,
                    Err(Fault { reason, detail }) => {
                        tracing::warn!("{} is not here yet: {detail}", self.name);
                        self.detail = detail;
                        Event::FetchFailed(reason)
                    }
                }
            }
            Outcome::Verified(Ok(attempts_max)) => Event::VerifyPassed { attempts_max },
            Outcome::Verified(Err(Fault { reason, detail })) => {
                self.detail = detail;
                Event::VerifyFailed(reason)
            }
            Outcome::Tested(Ok(detail)) => {
                self.detail = detail;
                Event::SelfTestPassed
            }
            Outcome::Tested(Err(Fault { reason, detail })) => {
                self.detail = detail;
                Event::SelfTestFailed(reason)
            }
        }
    }

    /// Looks at gates, deadlines and the disk.
    pub(crate) fn tick(&mut self, ctx: &mut Context<impl Disk, impl SpoolStore, impl Codec>) {
        self.retry_stalled(ctx);
        if self.stall.is_some() {
            return;
        }
        if self.machine.deadline().is_some_and(|at| ctx.now.ms >= at) {
            self.take(ctx, Event::TimerFired);
        }
        let Some(gate) = self.gate().filter(|_| ctx.now.ms >= self.judge_at) else { return };
        self.judge_at = ctx.now.ms.saturating_add(ctx.settings.judge_every_ms);
        ctx.order(Effect::Judge { model: self.name.clone(), gate });
    }

    /// Takes what a gate says.
    pub(crate) fn judged(
        &mut self,
        ctx: &mut Context<impl Disk, impl SpoolStore, impl Codec>,
        gate: Gate,
        verdict: Verdict,
        detail: String,
    ) {
        if self.stall.is_some() || self.gate() != Some(gate) {
            return;
        }
        let event = match (verdict, gate) {
            (Verdict::Pending { .. }, _) => return,
            // Too few samples in the shadow: the trial decides. A trial never passes by waiting.
            (Verdict::Passed | Verdict::Inconclusive { .. }, Gate::Shadow) => Event::ShadowPassed,
            (Verdict::Inconclusive { .. }, Gate::Trial) => return,
            (Verdict::Passed, Gate::Trial) => Event::TrialPassed,
            (Verdict::Failed(reason), Gate::Shadow) => Event::ShadowFailed(reason),
            (Verdict::Failed(reason), Gate::Trial) => Event::TrialFailed(reason),
        };
        self.detail = detail;
        self.take(ctx, event);
    }

    /// Says goodbye: a candidate that is loaded is not to blame for this stop.
    pub(crate) fn stop(&mut self, ctx: &mut Context<impl Disk, impl SpoolStore, impl Codec>) {
        self.stop_fetch(ctx);
        self.take(ctx, Event::Stopping);
    }
}
