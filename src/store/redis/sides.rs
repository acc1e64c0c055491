//! The database servers of the live replicas: one hash with a field for each replica, which a script keeps short.

use super::script::args;
use super::{Redis, script};
use crate::clock::millis;
use crate::model::Result;
use crate::store::{DatabaseSide, SIDE_TTL};

impl Redis {
    pub(super) async fn exchange_sides(&self, replica: &str, side: DatabaseSide) -> Result<Vec<DatabaseSide>> {
        let args = args! {
            replica: replica.to_owned().into(),
            side: encode(side).into(),
            ttl: millis(SIDE_TTL).to_string().into(),
        };
        let key = format!("{}:sides", self.prefix);
        let values = self.run(&script::SIDES, key, args).await?.fields()?.into_texts()?;
        // A value that this version cannot read was written by a later one, and says nothing here.
        Ok(values.iter().filter_map(|value| decode(value)).collect())
    }
}

fn encode(side: DatabaseSide) -> String {
    let DatabaseSide {
        system,
        timeline,
        next_transaction,
    } = side;
    format!("{system} {timeline} {next_transaction}")
}

fn decode(text: &str) -> Option<DatabaseSide> {
    let mut fields = text.split(' ');
    Some(DatabaseSide {
        system: fields.next()?.parse().ok()?,
        timeline: fields.next()?.parse().ok()?,
        next_transaction: fields.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_read_as_it_was_written() {
        let side = DatabaseSide {
            system: u64::MAX,
            timeline: 2,
            next_transaction: 7_000,
        };
        assert_eq!(decode(&encode(side)), Some(side));
        assert_eq!(decode("later format"), None);
    }
}
