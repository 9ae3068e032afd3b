//! `tidegate token`: who may use the controller's API, and what for.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use tidegate_wire::invitation::Pass;

use super::connection::{Connection, pass_in};
use super::text::{Table, ago, duration, moment, now_ms, time};
use super::{say, say_json};
use crate::api::types::{
    ApiRole, IssuedToken, TokenList, TokenRequest, TokenRevocation, TokenState, TokenView,
};
use crate::client::DEFAULT_URL;
use crate::clock;
use crate::data_dir::{ADMIN_TOKEN, DataDir, DataDirError};
use crate::ledger::{Decided, Ledger};
use crate::state::token::{self, LOCAL, TokenError};

const EXAMPLES: &str = "\
Examples:
  tidegate token create anna --role operator --expires 30d --why 'on call in July'
  tidegate token create prometheus --role viewer --why 'reads /metrics'
  tidegate token list
  tidegate token revoke anna --why 'left the company'

Roles: a viewer looks at everything but tokens. An operator also starts and stops rollouts, lets
devices in and puts them out. A publisher is a viewer that also uploads and releases models. An
admin may do everything, tokens and trust included.

Nobody has an admin token any more? Stop the controller, and on its machine run
  tidegate token create NAME --role admin --data DIR --why '…'";

/// Let people and programs use the controller, and put them out.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a token. It is shown this once.
    ///
    /// With --data and while no controller runs on that folder, the token is written to the
    /// folder's journal directly: the way back in when nobody has an admin token any more.
    Create(Create),
    /// List all tokens, those that are no longer good included. Secrets are not kept.
    List,
    /// Take the token of an operator back. It is worthless from that moment.
    Revoke {
        /// Whose.
        name: String,
        /// Why, for the audit log.
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
}

#[derive(Debug, Args)]
struct Create {
    /// Whose it is: what the audit log will say.
    name: String,
    /// What it allows.
    #[arg(long)]
    role: Role,
    /// How long it is good for; without it until it is revoked.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    expires: Option<Duration>,
    /// Before when it is not good: a UTC date, as in 2026-11-05 or 2026-11-05T14:03.
    #[arg(long, value_name = "WHEN", value_parser = |text: &str| moment(text, now_ms()))]
    from: Option<u64>,
    /// Why, for the audit log.
    #[arg(long, value_name = "TEXT")]
    why: String,
}

/// A role as it is given.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    /// Looks at everything but tokens; changes nothing.
    Viewer,
    /// Also starts and stops rollouts, lets devices in and puts them out.
    Operator,
    /// A viewer that also uploads and releases models. The signatures are the publishers' keys'.
    Publisher,
    /// Everything, tokens and keys of trust included.
    Admin,
}

impl From<Role> for ApiRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Viewer => Self::Viewer,
            Role::Operator => Self::Operator,
            Role::Publisher => Self::Publisher,
            Role::Admin => Self::Admin,
        }
    }
}

pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let Options { connection, command } = options;
    match command {
        Command::Create(create) => self::create(&connection, create).await?,
        Command::List => {
            let list = connection.client()?.tokens().await?;
            if connection.json { say_json(&list)? } else { say(table(&list, now_ms()))? }
        }
        Command::Revoke { name, why } => {
            // It stands in the path.
            if !token::is_name(&name) {
                bail!(TokenError::Name(name));
            }
            let revoked =
                connection.client()?.revoke_token(&name, &TokenRevocation { why }).await?;
            if connection.json {
                say_json(&revoked)?;
            } else {
                say(format_args!("the token of {} is worthless now", revoked.name))?;
            }
            if let Some(ms) = revoked.admins_until_ms {
                eprintln!(
                    "note: the admin tokens that are left all expire, the last one at {} UTC",
                    time(ms)
                );
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(connection: &Connection, create: Create) -> anyhow::Result<()> {
    let Create { name, role, expires, from: from_ms, why } = create;
    let role = ApiRole::from(role);
    let expires_seconds = expires.map(|expires| expires.as_secs());
    let request = TokenRequest { name, role, from_ms, expires_seconds, why };
    let issued =
        match connection.data().map(|data| locally(connection, &DataDir::new(data), &request)) {
            Some(Some(issued)) => issued?,
            // A controller runs there, or somewhere else.
            Some(None) | None => connection.client()?.create_token(&request).await?,
        };
    if connection.json {
        say_json(&issued)?;
    } else {
        say(&issued.token)?;
        let until =
            issued.expires_ms.map_or("it is revoked".to_owned(), |ms| format!("{} UTC", time(ms)));
        eprintln!("lets {} in as {role} until {until}; it is not shown again", request.name);
    }
    Ok(())
}

/// Writes a token to the journal of a controller that does not run. None if it runs.
fn locally(
    connection: &Connection,
    data: &DataDir,
    request: &TokenRequest,
) -> Option<anyhow::Result<IssuedToken>> {
    // Held until the journal is written.
    let folder = match data.open() {
        Ok(folder) => folder,
        Err(DataDirError::InUse { .. }) => return None,
        Err(error) => return Some(Err(error.into())),
    };
    let written = || {
        let ledger = Ledger::open(&data.join("journal"))?;
        let secret = clock::secret();
        ledger.decide(LOCAL, |state, now_ms| {
            let (record, expires_ms) = token::issue(state, now_ms, request, secret.digest())?;
            let controller = address(connection, data);
            let pass = Pass { controller, authority: folder.authority.digest(), secret };
            let issued = IssuedToken { token: pass.text(), expires_ms };
            Ok::<_, anyhow::Error>(Decided::one(record, request.why.clone(), issued))
        })
    };
    eprintln!("no controller runs on this folder: the token is written to its journal directly");
    Some(written())
}

/// Where the controller will be found: as told, or as it was last time.
fn address(connection: &Connection, data: &DataDir) -> String {
    let kept = || pass_in(&data.join(ADMIN_TOKEN)).ok().map(|pass| pass.controller);
    let given = connection.url().map(ToOwned::to_owned);
    given.or_else(kept).unwrap_or_else(|| DEFAULT_URL.to_owned())
}

fn table(list: &TokenList, now_ms: u64) -> Table {
    let mut table =
        Table::new(&["NAME", "ROLE", "STATE", "MADE (UTC)", "BY", "UNTIL (UTC)", "USED"]);
    for token in &list.tokens {
        let TokenView { name, role, state, issued_ms, by, .. } = token;
        let until = match state {
            TokenState::Revoked => token.revoked_ms,
            _ => token.expires_ms,
        };
        table.row([
            name.clone(),
            role.to_string(),
            state.name().to_owned(),
            time(*issued_ms),
            by.clone(),
            until.map(time).unwrap_or_default(),
            token.used_ms.map(|ms| ago(ms, now_ms)).unwrap_or_default(),
        ]);
    }
    table
}
