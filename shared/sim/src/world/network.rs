//! Between devices, broker and controller.

use std::rc::Rc;

use tidegate_device::Input;
use tidegate_wire::envelope;
use tidegate_wire::topic::Topic;

use super::node::{Link, Way};
use super::{Event, World};
use crate::broker::{Client, Connection, Delivery, Keep, Memory, Message, Place, Start};

/// Milliseconds after which both sides notice that nothing comes any more: pings go every twenty
/// seconds, and half as much again is waited for.
const KEEP_ALIVE_MS: u64 = 30_000;
/// Milliseconds to stay away after somebody else took the session, as the agent does.
const TAKEN_OVER_MS: u64 = 30_000;
/// The longest wait between two attempts at the broker, milliseconds, as in the agent.
const RETRY_MS_MAX: u64 = 60_000;

impl World {
    /// Plans an attempt at the broker, some time within `most_ms`.
    pub(super) fn plan_connect(&mut self, node: usize, most_ms: u64) {
        let it = &mut self.nodes[node];
        if !it.runs() || it.link != Link::Down {
            return;
        }
        let (wait, life) = (500 + it.network.below(most_ms), it.life);
        self.after(wait, Event::Connects { node, life });
    }

    /// Everybody who is cut off tries again, soon or late, as if they had done so all the time.
    pub(super) fn plan_connects(&mut self) {
        for node in 0..self.nodes.len() {
            self.plan_connect(node, RETRY_MS_MAX);
        }
    }

    /// An attempt at the broker.
    pub(super) fn connect(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        // Whoever cannot get through is told to try again when the trouble is over.
        if it.link != Link::Down || !it.is_reachable() || self.servers.broker_away {
            return;
        }
        let start = if it.fresh { Start::Fresh } else { Start::Resumed };
        it.fresh = false;
        let will: Rc<[u8]> = envelope::seal(&it.goodbye()).into();
        let client = Client { id: it.id, node: node as u32 };
        let mut deliveries = Vec::new();
        let (connection, put_out) = self.broker.connect(client, start, will, &mut deliveries);
        self.nodes[node].link = Link::Up(connection);
        if let Some((old, other)) = put_out {
            self.put_out(other.node as usize, old);
        }
        let every_s = self.nodes[node].troubles.cut_every_s;
        if every_s > 0 {
            let wait = self.nodes[node].network.below(2 * every_s * 1_000);
            self.after(wait, Event::Breaks { node, connection });
        }
        self.feed(node, Input::LinkUp);
        self.deliver(deliveries);
    }

    /// Somebody else came with the same id.
    fn put_out(&mut self, node: usize, connection: Connection) {
        if self.nodes[node].link == Link::Up(connection) {
            self.nodes[node].link = Link::Down;
            self.feed(node, Input::LinkDown);
            self.plan_connect(node, 2 * TAKEN_OVER_MS);
        }
    }

    /// A connection breaks, and both sides see it at once.
    pub(super) fn break_off(&mut self, node: usize, connection: Connection) {
        if self.nodes[node].link != Link::Up(connection) {
            return;
        }
        self.nodes[node].link = Link::Down;
        let mut deliveries = Vec::new();
        self.broker.noticed(self.nodes[node].id, connection, &mut deliveries);
        self.deliver(deliveries);
        self.feed(node, Input::LinkDown);
        self.plan_connect(node, 4_000);
    }

    /// Nothing comes through any more; nobody knows yet.
    pub(super) fn fall_silent(&mut self, node: usize) {
        let Link::Up(connection) = self.nodes[node].link else { return };
        self.nodes[node].link = Link::Dead(connection);
        let (life, id) = (self.nodes[node].life, self.nodes[node].id);
        let wait = KEEP_ALIVE_MS / 2 + self.nodes[node].network.below(KEEP_ALIVE_MS / 2);
        self.after(wait, Event::Notices { node, life, connection });
        self.after(KEEP_ALIVE_MS, Event::BrokerNotices { id, connection });
    }

    /// A device notices that its connection is dead.
    pub(super) fn notices(&mut self, node: usize, connection: Connection) {
        if self.nodes[node].link == Link::Dead(connection) {
            self.nodes[node].link = Link::Down;
            self.feed(node, Input::LinkDown);
            self.plan_connect(node, RETRY_MS_MAX);
        }
    }

    /// The broker notices that a connection is dead.
    pub(super) fn broker_notices(&mut self, id: u32, connection: Connection) {
        let mut deliveries = Vec::new();
        self.broker.noticed(id, connection, &mut deliveries);
        self.deliver(deliveries);
    }

    /// The process or the machine at the other end is gone.
    pub(super) fn hang_up(&mut self, node: usize, noticed: Noticed) {
        let (Link::Up(connection) | Link::Dead(connection)) = self.nodes[node].link else { return };
        self.nodes[node].link = Link::Down;
        let id = self.nodes[node].id;
        match noticed {
            Noticed::AtOnce => self.broker_notices(id, connection),
            Noticed::Later => self.after(KEEP_ALIVE_MS, Event::BrokerNotices { id, connection }),
        }
    }

    /// A device's message sets out.
    pub(super) fn send_up(
        &mut self,
        node: usize,
        connection: Connection,
        message: Message,
        keep: Keep,
    ) {
        let it = &mut self.nodes[node];
        let at_ms = it.arrives_ms(Way::Up, self.now_ms);
        if it.network.chance(it.troubles.loss) {
            return self.queue.push(at_ms, Event::Breaks { node, connection });
        }
        let id = it.id;
        if it.network.chance(it.troubles.duplicates) {
            let (late, message) = (it.delay_ms(), message.clone());
            let event = Event::AtBroker { node, id, connection, message, keep };
            self.queue.push(at_ms + late, event);
        }
        self.queue.push(at_ms, Event::AtBroker { node, id, connection, message, keep });
    }

    /// A device's message arrives at the broker.
    pub(super) fn at_broker(
        &mut self,
        node: usize,
        id: u32,
        connection: Connection,
        message: Message,
        keep: Keep,
    ) {
        // What is on its way when a connection breaks is lost; who sent it sends it again.
        let through = !self.nodes[node].troubles.offline && !self.servers.broker_away;
        if through && self.broker.is_connected(id, connection) {
            let mut deliveries = Vec::new();
            self.broker.publish(message, keep, &mut deliveries);
            self.deliver(deliveries);
        }
    }

    /// The broker's messages set out.
    pub(super) fn deliver(&mut self, deliveries: Vec<Delivery>) {
        for delivery in deliveries {
            match delivery {
                Delivery::Controller(message) => self.controller_hears(message),
                Delivery::Device { client, connection, message } => {
                    self.send_down(client, connection, message);
                }
            }
        }
    }

    fn send_down(&mut self, client: Client, connection: Connection, message: Message) {
        let node = client.node as usize;
        let it = &mut self.nodes[node];
        let at_ms = it.arrives_ms(Way::Down, self.now_ms);
        if it.network.chance(it.troubles.loss) {
            self.broker.undelivered(client.id, message);
            return self.queue.push(at_ms, Event::Breaks { node, connection });
        }
        if it.network.chance(it.troubles.duplicates) {
            let (late, message) = (it.delay_ms(), message.clone());
            self.queue.push(at_ms + late, Event::AtDevice { client, connection, message });
        }
        self.queue.push(at_ms, Event::AtDevice { client, connection, message });
    }

    /// The broker's message arrives at a device.
    pub(super) fn at_device(&mut self, client: Client, connection: Connection, message: Message) {
        let node = client.node as usize;
        let it = &self.nodes[node];
        if it.link != Link::Up(connection) || !it.is_reachable() {
            return self.broker.undelivered(client.id, message);
        }
        let topic = match message.place {
            Place::Timestamp => Topic::Timestamp,
            Place::Directive(model) => Topic::Directive(model),
            Place::Ack(_) => Topic::Ack(it.device.clone()),
            Place::Report(_) | Place::Status(_) => return,
        };
        let payload = message.payload.to_vec();
        self.feed(node, Input::Message { topic, payload });
    }

    /// The broker goes down and comes back with what it still knows.
    pub(super) fn restart_broker(&mut self, memory: Memory) {
        let connected = self.broker.restart(memory);
        self.controller_lost_broker();
        for (connection, client) in connected {
            let node = client.node as usize;
            let link = &mut self.nodes[node].link;
            if *link == Link::Up(connection) || *link == Link::Dead(connection) {
                *link = Link::Down;
                self.feed(node, Input::LinkDown);
                self.plan_connect(node, RETRY_MS_MAX);
            }
        }
    }
}

/// When a broker notices that somebody is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noticed {
    /// A process died: its machine says so.
    AtOnce,
    /// A machine is gone: nothing says so.
    Later,
}
