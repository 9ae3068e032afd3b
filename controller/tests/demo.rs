//! Each step of the demo end to end, over the embedded broker, with agents as processes.
//! (`./test.sh` runs all steps over Mosquitto, too.)

use std::path::PathBuf;

use tidegate_controller::demo::{Options, Scenario, Summary};

const DEVICES: u32 = 4;

/// A fleet whose devices all serve `digits 1.0.0`.
async fn serving_fleet() -> Scenario {
    let options = Options { devices: DEVICES, json: true, keep: false, mosquitto: None };
    let program = PathBuf::from(env!("CARGO_BIN_EXE_tidegate"));
    let mut scenario = Scenario::start(options, program).await.unwrap();
    scenario.enrol().await.unwrap();
    scenario.first_install().await.unwrap();
    scenario
}

async fn finish(mut scenario: Scenario) -> Summary {
    let summary = scenario.summary().await.unwrap();
    scenario.stop().await;
    assert_eq!(summary.failures, Vec::<String>::new());
    assert_eq!(summary.fleet.inferences_failed, 0);
    assert_eq!((summary.fleet.reports_lost, summary.fleet.reports_duplicated), (0, 0));
    assert!(summary.fleet.reports_delivered > 0);
    summary
}

fn all_on(summary: &Summary, version: &str) -> bool {
    summary.devices.iter().all(|device| device.after == version && device.inferences > 0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_enrol_and_get_their_first_model() {
    let summary = finish(serving_fleet().await).await;
    assert_eq!(summary.rollouts[0].outcome, "completed");
    assert!(all_on(&summary, "1.0.0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_model_goes_out_in_waves() {
    let mut scenario = serving_fleet().await;
    scenario.good_rollout().await.unwrap();
    let summary = finish(scenario).await;
    let rollout = &summary.rollouts[1];
    assert_eq!(rollout.outcome, "completed");
    let members: Vec<_> = rollout.waves.iter().map(|wave| wave.members).collect();
    assert_eq!(members, [2, DEVICES]);
    assert_eq!(rollout.devices_that_ever_served.len(), DEVICES as usize);
    assert!(all_on(&summary, "1.1.0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_model_is_stopped_by_its_canaries() {
    let mut scenario = serving_fleet().await;
    scenario.good_rollout().await.unwrap();
    scenario.bad_rollout().await.unwrap();
    let summary = finish(scenario).await;
    let rollout = &summary.rollouts[2];
    assert_eq!(rollout.outcome, "reverted");
    assert!(rollout.reason.is_some());
    assert_eq!(rollout.waves.len(), 1);
    assert_eq!((rollout.waves[0].members, rollout.waves[0].failed), (2, 2));
    assert!(rollout.devices_that_ever_served.len() <= 2);
    assert!(all_on(&summary, "1.1.0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_go_on_and_reports_wait_while_the_broker_is_away() {
    let mut scenario = serving_fleet().await;
    scenario.outage().await.unwrap();
    let summary = finish(scenario).await;
    assert_eq!(summary.fleet.reports_spooled, summary.fleet.reports_delivered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_killed_in_an_install_comes_back_with_a_model() {
    let mut scenario = serving_fleet().await;
    scenario.kill_in_install().await.unwrap();
    let summary = finish(scenario).await;
    assert!(all_on(&summary, "1.1.1"));
}
