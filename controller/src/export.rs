//! The audit log as lines of JSON that anybody can check: with SHA-256 and base64 alone that no
//! entry was changed, and with a CBOR library that none is missing between the first and the last.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tidegate_wire::Digest;

use crate::api::types::AuditRecord;
use crate::journal::{Chain, Head, Stored};
use crate::ledger::audited;

/// Why an export does not show a whole journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// A line is no entry, or not the next one.
    #[error("entry {seq} of the export is wrong: {what}")]
    Entry {
        /// The number that it should have.
        seq: u64,
        /// What is wrong.
        what: String,
    },
    /// It does not reach the head.
    #[error("the export ends with entry {last}, but entry {head} was written before it began")]
    Short {
        /// Its last entry.
        last: u64,
        /// The head's number.
        head: u64,
    },
    /// It is another journal.
    #[error("entry {0} of the export is not the one that the controller named as its head")]
    OtherHead(u64),
    /// An entry that was there once is not.
    #[error("no entry has the hash {0}: entries were taken away or changed since that was noted")]
    Noted(Digest),
}

/// An entry as one line, with its line break. Nothing in it drives a terminal.
pub fn line(stored: &Stored) -> String {
    let record = AuditRecord {
        said: audited(&stored.entry, stored.hash),
        previous: stored.entry.previous,
        entry: STANDARD.encode(&stored.payload),
    };
    let json = serde_json::to_string(&record).expect("names, numbers and strings are JSON");
    let mut line = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        match c.is_control() {
            true => line.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => line.push(c),
        }
    }
    line.push('\n');
    line
}

/// Checks an export line by line, from entry 1 on.
#[derive(Debug)]
pub struct Check {
    chain: Chain,
    head: Head,
    found: Option<Digest>,
    noted: Option<Digest>,
}

impl Check {
    /// A check against the head that was named before the export began, and against the hash of an
    /// entry that was noted elsewhere.
    pub fn new(head: Head, noted: Option<Digest>) -> Self {
        let found = (head.seq == 0).then_some(head.hash);
        Self { chain: Chain::default(), head, found, noted }
    }

    /// Takes the next line.
    ///
    /// # Errors
    /// [`ExportError::Entry`] says what is wrong with it.
    pub fn take(&mut self, line: &str) -> Result<(), ExportError> {
        let seq = self.chain.head().seq + 1;
        let wrong = |what: String| ExportError::Entry { seq, what };
        let record: AuditRecord =
            serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        let payload = STANDARD.decode(&record.entry).map_err(|error| wrong(error.to_string()))?;
        let stored = self.chain.take(payload).map_err(wrong)?;
        if audited(&stored.entry, stored.hash) != record.said {
            return Err(wrong("what it says is not what its bytes say".into()));
        }
        if seq == self.head.seq {
            self.found = Some(stored.hash);
        }
        self.noted.take_if(|noted| *noted == stored.hash);
        Ok(())
    }

    /// Ends the check: the last entry of a whole journal.
    ///
    /// # Errors
    /// [`ExportError`] says what is missing.
    pub fn end(self) -> Result<Head, ExportError> {
        let last = self.chain.head();
        match self.found {
            None => return Err(ExportError::Short { last: last.seq, head: self.head.seq }),
            Some(found) if found != self.head.hash => {
                return Err(ExportError::OtherHead(self.head.seq));
            }
            Some(_) => {}
        }
        self.noted.map_or(Ok(last), |hash| Err(ExportError::Noted(hash)))
    }
}
