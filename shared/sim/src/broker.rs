//! A broker as MQTT 5 describes one, as far as fleet and controller can tell.
//!
//! It keeps retained messages, and for each device a session: what the device has not acknowledged
//! is sent again when it comes back, as long as there is room and the broker does not forget. A
//! device that vanishes is said goodbye on its behalf. It serves one controller.
//!
//! It has no clock and no network: what it wants delivered it says, in order.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use tidegate_wire::ModelName;

/// Messages that a session holds while its device is away.
pub const ROOM: usize = 100;

/// Versions of one retained message that wait for a device: two, so that an older one can come
/// first, and no more, so that a device with a bad link is not buried in them.
const LATE: usize = 2;

/// One connection of a device; a later one has a higher number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection(pub u64);

/// Who connects: an id, and the machine that uses it. Two machines may have one id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The number of its id.
    pub id: u32,
    /// The machine.
    pub node: u32,
}

/// A topic, seen from the broker. Devices are told apart by the number of their id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The newest timestamp.
    Timestamp,
    /// A model's directive.
    Directive(ModelName),
    /// What the controller has stored of a device's reports.
    Ack(u32),
    /// A device's reports.
    Report(u32),
    /// A device's status.
    Status(u32),
}

/// A message and its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The topic.
    pub place: Place,
    /// What it says.
    pub payload: Rc<[u8]>,
}

/// Something to deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// To the device that is connected with this id.
    Device {
        /// Whoever connected.
        client: Client,
        /// Over this connection.
        connection: Connection,
        /// What.
        message: Message,
    },
    /// To the controller.
    Controller(Message),
}

#[derive(Debug, Default)]
struct Session {
    connected: Option<(Connection, Client)>,
    /// What the device has not acknowledged, or was not sent.
    waiting: VecDeque<Message>,
    will: Option<Rc<[u8]>>,
}

/// The broker.
#[derive(Debug)]
pub struct Broker {
    sessions: BTreeMap<u32, Session>,
    retained: BTreeMap<Place, Rc<[u8]>>,
    controller: bool,
    connections: u64,
    room: usize,
    dropped: u64,
    backup: Option<BTreeMap<Place, Rc<[u8]>>>,
}

impl Default for Broker {
    fn default() -> Self {
        Self {
            sessions: BTreeMap::new(),
            retained: BTreeMap::new(),
            controller: false,
            connections: 0,
            room: ROOM,
            dropped: 0,
            backup: None,
        }
    }
}

impl Broker {
    /// A device connects, subscribes, and leaves its will. `Fresh` drops what waited for it. Whoever
    /// was connected with the same id is put out: its connection is returned.
    pub fn connect(
        &mut self,
        client: Client,
        start: Start,
        will: Rc<[u8]>,
        deliveries: &mut Vec<Delivery>,
    ) -> (Connection, Option<(Connection, Client)>) {
        let id = client.id;
        let put_out = self.sessions.get(&id).and_then(|session| session.connected);
        if put_out.is_some() {
            self.lost(id, deliveries);
        }
        self.connections += 1;
        let connection = Connection(self.connections);
        let session = self.sessions.entry(id).or_default();
        session.connected = Some((connection, client));
        session.will = Some(will);
        if start == Start::Fresh {
            session.waiting.clear();
        }
        let waited = std::mem::take(&mut session.waiting);
        // Subscribing anew brings what is retained, whatever came before.
        let retained = self.retained.iter();
        let subscribed = retained
            .filter(|(place, _)| matches!(place, Place::Timestamp | Place::Directive(_)))
            .map(|(place, payload)| Message { place: place.clone(), payload: payload.clone() });
        let messages = waited.into_iter().chain(subscribed);
        deliveries.extend(messages.map(|message| Delivery::Device { client, connection, message }));
        (connection, put_out)
    }

    /// A device said goodbye: its will is not published.
    pub fn goodbye(&mut self, id: u32, connection: Connection) {
        if let Some(session) = self.session(id, connection) {
            session.connected = None;
            session.will = None;
        }
    }

    /// A connection broke and the broker noticed.
    pub fn noticed(&mut self, id: u32, connection: Connection, deliveries: &mut Vec<Delivery>) {
        if self.session(id, connection).is_some() {
            self.lost(id, deliveries);
        }
    }

    fn lost(&mut self, id: u32, deliveries: &mut Vec<Delivery>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.connected = None;
        if let Some(will) = session.will.take() {
            self.publish(
                Message { place: Place::Status(id), payload: will },
                Keep::Retain,
                deliveries,
            );
        }
    }

    fn session(&mut self, id: u32, connection: Connection) -> Option<&mut Session> {
        self.sessions.get_mut(&id).filter(|session| is(session, connection))
    }

    /// Whether this connection is up, as far as the broker knows.
    pub fn is_connected(&self, id: u32, connection: Connection) -> bool {
        self.sessions.get(&id).is_some_and(|session| is(session, connection))
    }

    /// A message that was on its way to a device did not arrive: it waits for the next connection.
    pub fn undelivered(&mut self, id: u32, message: Message) {
        self.queue(id, message);
    }

    fn queue(&mut self, id: u32, message: Message) {
        let room = self.room;
        let Some(session) = self.sessions.get_mut(&id) else { return };
        // What is retained comes with every connection anyway: the newest of it may wait, and what
        // it takes the place of may come late.
        if matches!(message.place, Place::Timestamp | Place::Directive(_)) {
            let older = |it: &&Message| it.place == message.place;
            if session.waiting.iter().filter(older).count() >= LATE {
                let first = session.waiting.iter().position(|it| it.place == message.place);
                first.and_then(|at| session.waiting.remove(at));
            }
        }
        if session.waiting.len() < room {
            session.waiting.push_back(message);
        } else {
            self.dropped += 1;
        }
    }

    /// Takes a message.
    pub fn publish(&mut self, message: Message, keep: Keep, deliveries: &mut Vec<Delivery>) {
        if keep == Keep::Retain {
            match message.payload.is_empty() {
                true => self.retained.remove(&message.place),
                false => self.retained.insert(message.place.clone(), message.payload.clone()),
            };
        }
        match message.place {
            Place::Report(_) | Place::Status(_) if self.controller => {
                deliveries.push(Delivery::Controller(message));
            }
            // The controller's session begins clean: what comes meanwhile is reported again.
            Place::Report(_) | Place::Status(_) => {}
            Place::Ack(id) => self.send(id, message, deliveries),
            Place::Timestamp | Place::Directive(_) => {
                let ids: Vec<u32> = self.sessions.keys().copied().collect();
                for id in ids {
                    self.send(id, message.clone(), deliveries);
                }
            }
        }
    }

    fn send(&mut self, id: u32, message: Message, deliveries: &mut Vec<Delivery>) {
        match self.sessions.get(&id).and_then(|session| session.connected) {
            Some((connection, client)) => {
                deliveries.push(Delivery::Device { client, connection, message });
            }
            None => self.queue(id, message),
        }
    }

    /// The controller connects and subscribes.
    pub fn controller_connects(&mut self, deliveries: &mut Vec<Delivery>) {
        self.controller = true;
        let statuses = self.retained.iter().filter(|(place, _)| matches!(place, Place::Status(_)));
        deliveries.extend(statuses.map(|(place, payload)| {
            Delivery::Controller(Message { place: place.clone(), payload: payload.clone() })
        }));
    }

    /// The controller is gone.
    pub fn controller_leaves(&mut self) {
        self.controller = false;
    }

    /// The broker restarts. All connections break; who was connected is returned.
    pub fn restart(&mut self, memory: Memory) -> Vec<(Connection, Client)> {
        let connected = self.sessions.values().filter_map(|session| session.connected).collect();
        self.controller = false;
        for session in self.sessions.values_mut() {
            session.connected = None;
        }
        match memory {
            Memory::Kept => {}
            Memory::WithoutSessions => self.sessions.clear(),
            Memory::WithoutRetained => self.retained.clear(),
            Memory::OfBackup => {
                if let Some(backup) = self.backup.take() {
                    self.retained = backup;
                }
            }
        }
        connected
    }

    /// Saves the retained messages, to come back to.
    pub fn back_up(&mut self) {
        self.backup = Some(self.retained.clone());
    }

    /// How many messages a session may hold.
    pub fn set_room(&mut self, room: usize) {
        self.room = room;
    }

    /// Messages that found no room.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

fn is(session: &Session, connection: Connection) -> bool {
    session.connected.is_some_and(|(connected, _)| connected == connection)
}

/// How a session begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Without what waited: a process that just started.
    Fresh,
    /// With what waited.
    Resumed,
}

/// Whether a message stays at the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// For whoever subscribes later.
    Retain,
    /// Only for those who are there.
    Pass,
}

/// What a restart leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Everything.
    Kept,
    /// Retained messages.
    WithoutSessions,
    /// Sessions.
    WithoutRetained,
    /// The retained messages as they were when they were saved.
    OfBackup,
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Client = Client { id: 1, node: 7 };

    fn message(place: Place, text: &str) -> Message {
        Message { place, payload: text.as_bytes().into() }
    }

    fn texts(deliveries: &[Delivery]) -> Vec<String> {
        let text = |delivery: &Delivery| match delivery {
            Delivery::Device { message, .. } | Delivery::Controller(message) => {
                String::from_utf8(message.payload.to_vec()).unwrap()
            }
        };
        deliveries.iter().map(text).collect()
    }

    fn connect(broker: &mut Broker, start: Start) -> (Connection, Vec<String>) {
        let mut out = Vec::new();
        let (connection, _) = broker.connect(CLIENT, start, b"will".as_slice().into(), &mut out);
        (connection, texts(&out))
    }

    #[test]
    fn a_session_keeps_what_its_device_missed_unless_it_starts_anew() {
        let mut broker = Broker::default();
        let (connection, _) = connect(&mut broker, Start::Fresh);
        broker.goodbye(1, connection);
        broker.publish(message(Place::Ack(1), "ack"), Keep::Pass, &mut Vec::new());
        broker.publish(message(Place::Timestamp, "stamp"), Keep::Retain, &mut Vec::new());
        let (connection, got) = connect(&mut broker, Start::Resumed);
        assert_eq!(got, ["ack", "stamp", "stamp"]);
        broker.goodbye(1, connection);
        broker.publish(message(Place::Ack(1), "ack"), Keep::Pass, &mut Vec::new());
        assert_eq!(connect(&mut broker, Start::Fresh).1, ["stamp"]);
    }

    #[test]
    fn the_will_of_who_vanishes_or_is_put_out_is_published_once() {
        let mut broker = Broker::default();
        broker.controller_connects(&mut Vec::new());
        let (first, _) = connect(&mut broker, Start::Fresh);
        let mut out = Vec::new();
        let (_, put_out) =
            broker.connect(CLIENT, Start::Fresh, b"other".as_slice().into(), &mut out);
        assert_eq!((put_out, texts(&out)), (Some((first, CLIENT)), vec!["will".to_owned()]));
        let mut out = Vec::new();
        broker.noticed(1, first, &mut out);
        assert!(out.is_empty(), "that connection is long gone");
    }

    #[test]
    fn a_restart_may_lose_sessions_or_retained_messages() {
        let mut broker = Broker::default();
        broker.publish(message(Place::Timestamp, "stamp"), Keep::Retain, &mut Vec::new());
        let (connection, _) = connect(&mut broker, Start::Fresh);
        assert_eq!(broker.restart(Memory::WithoutSessions), [(connection, CLIENT)]);
        broker.publish(message(Place::Ack(1), "ack"), Keep::Pass, &mut Vec::new());
        assert_eq!(connect(&mut broker, Start::Resumed).1, ["stamp"], "nobody waited for the ack");
        broker.back_up();
        broker.restart(Memory::WithoutRetained);
        assert!(connect(&mut broker, Start::Resumed).1.is_empty());
        broker.restart(Memory::OfBackup);
        assert_eq!(connect(&mut broker, Start::Resumed).1, ["stamp"]);
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let mut broker = Broker::default();
        let (connection, _) = connect(&mut broker, Start::Fresh);
        broker.goodbye(1, connection);
        broker.set_room(1);
        for _ in 0..3 {
            broker.publish(message(Place::Ack(1), "ack"), Keep::Pass, &mut Vec::new());
        }
        assert_eq!((broker.dropped(), connect(&mut broker, Start::Resumed).1.len()), (2, 1));
    }
}
