//! Everything around one agent is the attacker's: the server, and the broker with what it says. Both
//! behave as an attack folder says.

mod broker;
mod mirror;

pub use broker::{Broker, Heard};
pub use mirror::Mirror;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::authority::{Validity, now};
use crate::client::Client;

/// Certificates of the attacker's are good until 2055: a device judges them by the time that it
/// trusts, and in one of the folders that is 2052.
pub fn validity() -> Validity {
    Validity(now() - 86_400, 2_682_374_400)
}

/// A running agent; killed if the test forgets it.
pub struct Agent {
    child: Child,
    pub address: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Agent {
    /// Starts it, and waits until it says where it listens. Blocks.
    pub fn start(config: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate-agent"))
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let address = loop {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "it ended before it listened");
            log.lock().unwrap().push_str(&line);
            if let Some((_, address)) = line.split_once("listens on http://") {
                break address.trim().parse().unwrap();
            }
        };
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut kept = kept.lock().unwrap();
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        Self { child, address, log }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Asks it to stop; returns its exit code. Blocks.
    pub fn stop(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An application that asks all the time by what number the model multiplies.
pub struct Application {
    stop: Arc<AtomicBool>,
    factors: Arc<Mutex<Vec<i64>>>,
    thread: JoinHandle<()>,
}

impl Application {
    pub fn start(agent: SocketAddr) -> Self {
        let (stop, factors) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (until, answers) = (Arc::clone(&stop), Arc::clone(&factors));
        let thread = std::thread::spawn(move || {
            let mut client = Client::new(agent);
            loop {
                let last = until.load(Ordering::Relaxed);
                let mut answers = answers.lock().unwrap();
                match ask(&mut client) {
                    Ok(factor) => answers.push(factor),
                    // Until it has enrolled there is nothing to ask; from then on there always is.
                    Err(error) => assert!(answers.is_empty() && !last, "{error}"),
                }
                if last {
                    return;
                }
                drop(answers);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Self { stop, factors, thread }
    }

    /// Asks once more and ends. Everything that was ever answered, and the last answer.
    pub fn stop(self) -> (BTreeSet<i64>, i64) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("every question was answered");
        let factors = self.factors.lock().unwrap();
        (factors.iter().copied().collect(), *factors.last().expect("it was asked"))
    }
}

fn ask(client: &mut Client) -> Result<i64, String> {
    let question = r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,10]}]}"#;
    let answer = client.post("/v2/models/gauge/infer", "", question.as_bytes());
    if answer.status != 200 {
        return Err(format!("{}: {}", answer.status, answer.body));
    }
    let outputs = &answer.json()["outputs"][0]["data"];
    let [one, ten] = [0, 1].map(|index| outputs[index].as_f64().unwrap());
    assert_eq!(ten, 10.0 * one, "{}", answer.body);
    Ok(one as i64)
}
