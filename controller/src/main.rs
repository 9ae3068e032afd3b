//! `tidegate`: the controller's server and the operator's command line in one binary.

fn main() -> std::process::ExitCode {
    tidegate_controller::cli::main()
}
