//! `tidegate`: the controller's server and the operator's command line in one binary.

fn main() -> std::process::ExitCode {
    check_text_models_on_one_thread();
    tidegate_controller::cli::main()
}

/// As devices do by default. candle's threads wait by spinning: on a busy machine two of them took
/// twenty times as long as one.
#[expect(unsafe_code, reason = "candle takes its number of threads from nowhere else")]
fn check_text_models_on_one_thread() {
    const VARIABLE: &str = "RAYON_NUM_THREADS";
    if std::env::var_os(VARIABLE).is_none() {
        // SAFETY: the program has one thread yet, so nobody reads the environment meanwhile.
        unsafe { std::env::set_var(VARIABLE, "1") };
    }
}
