//! A device without sockets and files: the cores, and what an agent does around them.

use tidegate_lifecycle::{
    Assignment, Effect as Doing, Event as Happened, Machine, Outcome as Ended, Record, Slot, SlotId,
};
use tidegate_trust::trusted::{Recovered, Stored};
use tidegate_trust::workflow::{Effect, Event};
use tidegate_trust::{
    AgentVersion, DeviceFacts, EngineFacts, Limits, Refresh, Role, Trusted, Verifier,
    verify_directive,
};
use tidegate_wire::envelope::{self, Message};
use tidegate_wire::manifest::Manifest;
use tidegate_wire::{ArtifactRef, Digest, Generation, Labels, Reason, State, Version};

use crate::folder::{self, Attack, Conduct, FOLLOWED, Files, Step};

/// The first second of 2026.
const NOW: u64 = 1_767_225_600;

/// One device, its disk, and what it refused.
pub struct Device {
    pub disk: Files,
    pub refusals: Vec<(Step, Reason)>,
    machine: Machine,
    /// What was installed, by its manifest.
    names: Vec<(Digest, Version)>,
    now_ms: u64,
}

impl Device {
    /// The device of a folder before its attack.
    pub fn before(attack: &Attack) -> Self {
        let artifact = folder::installed_artifact();
        let record = Record {
            seq: 1,
            generation: Generation(FOLLOWED),
            slots: [Slot::Committed(artifact), Slot::Empty],
            active: Some(SlotId::A),
            outcome: Some(Ended { state: State::Committed, artifact, reason: None }),
            ..Record::default()
        };
        let (machine, _) = Machine::recover(Some(record), &tidegate_lifecycle::Limits::NONE);
        let role = |(path, bytes): (&String, &Vec<u8>)| {
            Some((path.strip_prefix("trust/")?.to_string(), bytes.clone()))
        };
        let disk = attack.device.iter().filter_map(role).collect();
        Self { disk, refusals: vec![], machine, names: vec![], now_ms: 0 }
    }

    /// What answers.
    pub fn active(&self) -> Digest {
        self.machine.active().expect("something always answers").1
    }

    /// The version of what answers, if it was installed here.
    pub fn version(&self) -> Option<Version> {
        let named = self.names.iter().find(|(digest, _)| *digest == self.active());
        named.map(|(_, version)| version.clone())
    }

    /// Refreshes from the attacker's mirror, and takes his directive.
    pub fn meets(&mut self, attack: &Attack) {
        if let Err(refusal) = self.refresh(attack) {
            self.refusals.push(refusal);
        }
        if let Err(refusal) = self.follow(attack) {
            self.refusals.push(refusal);
        }
    }

    fn trusted(&self) -> Trusted {
        let stored = Stored {
            root: self.disk["root"].clone(),
            timestamp: self.disk.get("timestamp").cloned(),
            snapshot: self.disk.get("snapshot").cloned(),
            targets: self.disk.get("targets").cloned(),
        };
        let Recovered { trusted, dropped } = Trusted::recover(stored).unwrap();
        assert_eq!(dropped, [], "what was stored is good");
        trusted
    }

    fn refresh(&mut self, attack: &Attack) -> Result<(), (Step, Reason)> {
        let (mut refresh, mut effects) = Refresh::start(NOW, self.trusted(), Limits::default());
        let mut step = Step::Root;
        loop {
            let mut answer = None;
            for effect in effects {
                match effect {
                    Effect::Fetch { role, version, length_max } => {
                        step = step_of(role);
                        answer = Some(metadata(attack, role, version, length_max));
                    }
                    Effect::Persist { role, bytes } => {
                        self.disk.insert(role.name().to_string(), bytes);
                    }
                    Effect::Forget { role } => {
                        self.disk.remove(role.name());
                    }
                    Effect::Done(_) => return Ok(()),
                    Effect::Failed(error) => return Err((step, error.reason())),
                    Effect::Ignored { role } => panic!("{role} was not asked for"),
                }
            }
            effects = refresh.step(answer.expect("something is asked for"));
        }
    }

    fn follow(&mut self, attack: &Attack) -> Result<(), (Step, Reason)> {
        let Some(signed) = attack.directives.get(&folder::model()) else { return Ok(()) };
        let mut signed = signed.clone();
        if attack.conduct("directives/gauge") == Some(Conduct::Oversized) {
            signed.resize(tidegate_trust::directive::SIZE_MAX + 1, 0);
        }
        let trusted = self.trusted();
        let verified = verify_directive(&trusted, &signed, &folder::model())
            .map_err(|error| (Step::Directive, error.reason()))?;
        let directive = verified.directive();
        let rule = directive.rule_for(&folder::device(), &Labels::new()).unwrap();
        let artifact = rule.artifact.clone();
        let installable = trusted
            .authorise(&folder::model(), &artifact, &facts())
            .map(|entry| entry.release)
            .map_err(|refusal| refusal.reason())
            .and_then(|release| {
                trusted.fresh(NOW).map_err(|error| error.reason())?;
                verified.may_install(trusted.now(NOW)).map(|()| release)
            });
        let assignment = Assignment { artifact: artifact.digest, since: rule.since, installable };
        let event = Happened::Directed { generation: directive.generation, to: Some(assignment) };
        let effects = self.machine.step(self.now_ms, event);
        let announced = effects.iter().find_map(|effect| match effect {
            Doing::Announce(announcement) => announcement.reason,
            _ => None,
        });
        match announced {
            Some(reason @ Reason::StaleGeneration) => Err((Step::Generation, reason)),
            Some(reason) => Err((Step::Release, reason)),
            None => self.install(attack, &trusted, &artifact),
        }
    }

    /// Fetches until it is there, or the machine gives up, or there is nothing to hope for.
    fn install(
        &mut self,
        attack: &Attack,
        trusted: &Trusted,
        artifact: &ArtifactRef,
    ) -> Result<(), (Step, Reason)> {
        let length = trusted.targets().unwrap().entry(&folder::model(), artifact).unwrap().length;
        let mut refusal = None;
        for _ in 0..10 {
            refusal = fetch(attack, artifact.digest, length).err();
            let Some((_, reason)) = refusal else { break };
            self.machine.step(self.now_ms, Happened::FetchFailed(reason));
            let Some(deadline) = self.machine.deadline() else { break };
            self.now_ms = deadline;
            self.machine.step(self.now_ms, Happened::TimerFired);
        }
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        for event in [
            Happened::FetchFinished,
            Happened::VerifyPassed { attempts_max: 3 },
            Happened::SelfTestPassed,
            Happened::ShadowPassed,
            Happened::TrialPassed,
        ] {
            self.machine.step(self.now_ms, event);
        }
        self.names.push((artifact.digest, artifact.version.clone()));
        Ok(())
    }
}

fn facts() -> DeviceFacts {
    let engine = EngineFacts { name: "tract-onnx".to_string(), opset_max: 21 };
    let agent = AgentVersion([0, 1, 0]);
    DeviceFacts { engines: vec![engine], agent, memory_mib: 512, labels: Labels::new() }
}

fn step_of(role: Role) -> Step {
    match role {
        Role::Root => Step::Root,
        Role::Timestamp => Step::Timestamp,
        Role::Snapshot => Step::Snapshot,
        Role::Targets => Step::Targets,
        Role::Director => panic!("the director has no file"),
    }
}

/// What the mirror sends for a path, and what the shell makes of how it does so: it stops reading
/// after `length_max` bytes, and gives up a connection that is silent or slow.
fn ask(attack: &Attack, path: &str, length_max: usize) -> Result<Vec<u8>, Reason> {
    let bytes = attack.mirror.get(path);
    match attack.conduct(path) {
        Some(Conduct::Endless | Conduct::Oversized) => Err(Reason::TooLong),
        Some(Conduct::Trickle | Conduct::Silent | Conduct::Refused) => Err(Reason::Unreachable),
        Some(Conduct::Truncated) => Ok(bytes.unwrap()[..bytes.unwrap().len() / 2].to_vec()),
        Some(Conduct::WrongRange) => {
            let bytes = bytes.unwrap();
            let (first, rest) = bytes.split_at(bytes.len() / 2);
            Ok([first, &bytes[..rest.len()]].concat())
        }
        None => match bytes {
            None => Err(Reason::BlobNotFound),
            Some(bytes) if bytes.len() > length_max => Err(Reason::TooLong),
            Some(bytes) => Ok(bytes.clone()),
        },
    }
}

fn metadata(attack: &Attack, role: Role, version: Option<u64>, length_max: usize) -> Event {
    let path = match version {
        Some(version) => format!("metadata/{version}.{role}"),
        None => format!("metadata/{role}"),
    };
    match ask(attack, &path, length_max) {
        Ok(bytes) => Event::Fetched { role, bytes },
        Err(Reason::BlobNotFound) => Event::NotFound { role },
        Err(reason) => Event::FetchFailed { role, reason },
    }
}

/// Fetches a manifest and the files that it names, every byte through a [`Verifier`].
fn fetch(attack: &Attack, artifact: Digest, length: u64) -> Result<(), (Step, Reason)> {
    let blob = |step: Step, digest: Digest, length: u64| {
        let refused = |reason| (step, reason);
        let bytes = ask(attack, &format!("blobs/{digest}"), length as usize).map_err(refused)?;
        let mut verifier = Verifier::new(length, digest);
        verifier.update(&bytes).map_err(|error| refused(error.reason()))?;
        verifier.finish().map_err(|error| refused(error.reason()))?;
        Ok(bytes)
    };
    if length > Manifest::SIZE_MAX as u64 {
        return Err((Step::Manifest, Reason::TooLarge));
    }
    let bytes = blob(Step::Manifest, artifact, length)?;
    let manifest: Manifest =
        envelope::open(&bytes).map_err(|error| (Step::Manifest, error.reason()))?;
    for file in &manifest.files {
        blob(Step::File, file.digest, file.length)?;
    }
    Ok(())
}
