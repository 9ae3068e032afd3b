//! An operator who decides all the time, and remembers what was acknowledged.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_controller::api::types::DeviceTokenRequest;
use tidegate_controller::client::Client;
use tokio::task::JoinHandle;

/// Between two decisions: the next one is asked for when the last is on the disk.
const PAUSE: Duration = Duration::from_millis(20);

pub struct Clerk {
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    task: JoinHandle<()>,
}

impl Clerk {
    /// Decides from now on, until it is let go. `shift` makes its words differ from all others'.
    pub fn begin(client: Client, shift: u64) -> Self {
        let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
        let noted = Arc::clone(&acknowledged);
        let task = tokio::spawn(async move {
            for number in 0_u64.. {
                let why = format!("decision {number} of shift {shift}");
                let request = DeviceTokenRequest {
                    labels: Default::default(),
                    uses: 1,
                    expires_seconds: 60,
                    why: why.clone(),
                };
                if client.device_token(&request).await.is_ok() {
                    noted.lock().unwrap().insert(why);
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { acknowledged, task }
    }

    /// Stops, and says which decisions were acknowledged.
    pub async fn end(self) -> BTreeSet<String> {
        self.task.abort();
        let _ = self.task.await;
        std::mem::take(&mut *self.acknowledged.lock().unwrap())
    }
}
