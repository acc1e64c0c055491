//! Announcements between the replicas: late, in another order, or lost.

use std::sync::Arc;

use async_trait::async_trait;
use countersign::model::{Result, Revocation};
use countersign::store::{AnnouncementEvent, Announcements, DatabaseSide};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::link::Link;
use crate::mutants::Mutant;
use crate::support::random::Random;

/// How many announcements may wait for a replica.
const BUFFER: usize = 256;

/// The listeners of all replicas.
pub(crate) struct Bus {
    listeners: Mutex<Vec<mpsc::Sender<AnnouncementEvent>>>,
    dice: Mutex<Random>,
}

impl Bus {
    pub(crate) fn new(random: Random) -> Arc<Self> {
        Arc::new(Self {
            listeners: Mutex::default(),
            dice: Mutex::new(random),
        })
    }
}

/// The announcements as a replica reaches them.
pub(crate) struct SimAnnouncements {
    pub(crate) bus: Arc<Bus>,
    pub(crate) link: Arc<Link>,
    pub(crate) mutant: Option<Mutant>,
}

impl SimAnnouncements {
    fn deliver(&self, revocations: &[Revocation]) {
        let (sim, plan) = (&self.link.sim, &self.link.sim.plan);
        let mut listeners = self.bus.listeners.lock();
        listeners.retain(|listener| !listener.is_closed());
        let mut dice = self.bus.dice.lock();
        for listener in listeners.iter() {
            let is_lost = dice.below(1_000) < plan.unannounced_rate && !sim.is_calm();
            let longest = u64::try_from(plan.announcement_delay.as_millis()).unwrap();
            let delay = dice.millis(0, longest);
            // A real stream notices most of what it lost.
            let is_noticed = dice.below(2) == 0;
            if self.mutant == Some(Mutant::FeedMissesRevocations) || is_lost && !is_noticed {
                continue;
            }
            let event = if is_lost {
                AnnouncementEvent::Gap
            } else {
                AnnouncementEvent::Revocations(revocations.to_vec())
            };
            let listener = listener.clone();
            tokio::spawn(async move {
                sleep(delay).await;
                // A replica that has crashed hears nothing.
                let _ = listener.send(event).await;
            });
        }
    }
}

#[async_trait]
impl Announcements for SimAnnouncements {
    async fn announce(&self, revocations: &[Revocation]) -> Result<()> {
        let effect = async {
            self.deliver(revocations);
            Ok(())
        };
        self.link.call("announce", effect).await
    }

    async fn publish_side(&self, _replica: &str, _side: DatabaseSide) -> Result<Vec<DatabaseSide>> {
        Ok(Vec::new())
    }

    fn listen(&self) -> mpsc::Receiver<AnnouncementEvent> {
        let (sender, receiver) = mpsc::channel(BUFFER);
        self.bus.listeners.lock().push(sender);
        receiver
    }
}
