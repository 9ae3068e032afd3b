//! The page that lists the attacks.

use std::fmt::Write as _;

use super::scene::{Expected, Folder};

const HEAD: &str = "\
# Attacks

One folder for each attack on a device. Those that must be refused come with three that must install
(`honest`, `honest-rotation`, and `fast-forward`, which is about the way out): a device that refuses everything
would be noticed.

| in a folder | is |
|---|---|
| `attack.toml` | what the attacker has, what he does, what must not happen; the step at which he is refused, the reason by name and number |
| `device/` | what the device has in its data folder: signed metadata and the directive that it follows. It runs 1.0.0, whose files are in `installed/` |
| `mirror/metadata/`, `mirror/blobs/` | what the server has, by the path that it is asked for |
| `directives/<model>.cose` | what comes on the model's topic |
| `[conduct]` in `attack.toml` | how the server behaves for a path: `endless`, `oversized`, `truncated`, `wrong-range`, `trickle`, `silent`, `refused`. So nothing here is large |
| `persists` in `attack.toml` | metadata that is genuine as far as the device can tell, and may be kept: that of a stolen online key, or of steps before the refusal |

The model of all folders multiplies by a number that is its version's own: 1.0.0 doubles. So an answer
shows what gave it.

The bytes come from `examples/forge-attacks`, from fixed keys and dates; a test compares them. After a
change there:

```text
cargo run -p tidegate-trust --example forge-attacks
```

Two runners go through the same folders. `shared/trust/tests/attacks.rs` drives the pure cores as an agent
does. `agent/tests/attacks.rs` starts the real agent with a hostile server and broker around it.

## Not here, and why

- *Extraneous dependencies*: an artifact has none. Its manifest names every file by length and digest, and
  nothing else is fetched.
- *Eavesdrop*: not refused but prevented, by TLS on every connection; the tests of the agent's and the
  controller's connections have that.
- *Drop-request* without end is not refused either: no protocol forces a mirror to answer. The device goes on
  with what it has, says so, and installs nothing new once its metadata has expired (`drop-request`,
  `freeze`).

## The list
";

pub fn readme(folders: &[Folder]) -> Vec<u8> {
    let mut text = HEAD.to_string();
    text.push_str("\n| folder | attack | refused at | reason |\n|---|---|---|---|\n");
    for folder in folders {
        let (name, title) = (folder.name, folder.story.title);
        let (step, reason) = match folder.expected {
            Expected::Installs(version) => ("–".to_string(), format!("installs {version}")),
            Expected::Refused(step, reason) => {
                (step.to_string(), format!("{} {reason:?}", reason.code()))
            }
        };
        writeln!(text, "| `{name}` | {title} | {step} | {reason} |").expect("a string takes text");
    }
    text.into_bytes()
}
