//! The limit on renewals in progress.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::model::{ErrorKind, Result, UserId};

/// Limit on renewals in progress. More would not finish before the proxies time out.
const MAX_RENEWALS: usize = 256;

/// Limit on renewals in progress of one user, so that no user takes the places of the others. Further ones wait: all parts of a
/// page may need a renewal at once.
const MAX_RENEWALS_PER_USER: usize = 8;

/// Limit on renewals of one user that run or wait. A browser sends at most about a hundred requests at once.
const MAX_REQUESTS_PER_USER: usize = 128;

/// Places for renewals, with a share for each user. Only requests whose refresh token has a valid tag come here, so users
/// cannot be made up.
#[derive(Debug)]
pub(super) struct RenewalLimit {
    places: Semaphore,
    /// The users with renewals that run or wait.
    users: Mutex<HashMap<UserId, UserShare>>,
}

#[derive(Debug)]
struct UserShare {
    places: Arc<Semaphore>,
    /// Renewals that run or wait.
    requests: usize,
}

/// A place for one renewal; given back when dropped.
#[derive(Debug)]
pub(super) struct RenewalPlace<'a> {
    _place: SemaphorePermit<'a>,
    _user_place: OwnedSemaphorePermit,
    _request: UserRequest<'a>,
}

/// A renewal of a user that runs or waits; no longer counted when dropped.
#[derive(Debug)]
struct UserRequest<'a> {
    limit: &'a RenewalLimit,
    user: UserId,
}

impl Default for RenewalLimit {
    fn default() -> Self {
        Self {
            places: Semaphore::new(MAX_RENEWALS),
            users: Mutex::default(),
        }
    }
}

impl RenewalLimit {
    /// Takes a place for a renewal of this user, after waiting for the user's own renewals if there are many.
    ///
    /// # Errors
    /// `OVERLOADED` if the user has too many renewals that wait, or if all places are taken.
    pub(super) async fn enter(&self, user: UserId) -> Result<RenewalPlace<'_>> {
        let (request, user_places) = self.count(user)?;
        let user_place = user_places.acquire_owned().await.map_err(|_| ErrorKind::Overloaded)?;
        let place = self.places.try_acquire().map_err(|_| ErrorKind::Overloaded)?;
        Ok(RenewalPlace {
            _place: place,
            _user_place: user_place,
            _request: request,
        })
    }

    fn count(&self, user: UserId) -> Result<(UserRequest<'_>, Arc<Semaphore>)> {
        let mut users = self.users.lock();
        let share = users.entry(user).or_insert_with(|| UserShare {
            places: Arc::new(Semaphore::new(MAX_RENEWALS_PER_USER)),
            requests: 0,
        });
        if share.requests >= MAX_REQUESTS_PER_USER {
            return Err(ErrorKind::Overloaded.into());
        }
        share.requests += 1;
        Ok((UserRequest { limit: self, user }, Arc::clone(&share.places)))
    }
}

impl Drop for UserRequest<'_> {
    fn drop(&mut self) {
        let mut users = self.limit.users.lock();
        if let Entry::Occupied(mut entry) = users.entry(self.user) {
            entry.get_mut().requests -= 1;
            if entry.get().requests == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use uuid::Uuid;

    use super::*;

    fn user(number: u128) -> UserId {
        UserId(Uuid::from_u128(number))
    }

    #[tokio::test]
    async fn renewals_of_one_user_wait_for_one_another_and_not_for_others() {
        let limit = RenewalLimit::default();
        let mut running = Vec::new();
        for _ in 0..MAX_RENEWALS_PER_USER {
            running.push(limit.enter(user(1)).await.unwrap());
        }
        let mut waiting = Box::pin(limit.enter(user(1)));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(limit.enter(user(2)).await.is_ok());
        running.pop();
        assert!(waiting.await.is_ok());
    }

    #[tokio::test]
    async fn the_requests_that_wait_are_bounded_and_leave_nothing_behind() {
        let limit = RenewalLimit::default();
        let mut requests: Vec<_> = (0..MAX_REQUESTS_PER_USER)
            .map(|_| Box::pin(limit.enter(user(1))))
            .collect();
        let mut places: Vec<_> = requests
            .iter_mut()
            .map(|request| request.as_mut().now_or_never())
            .collect();
        assert_eq!(places.iter().flatten().count(), MAX_RENEWALS_PER_USER);
        assert_eq!(limit.enter(user(1)).await.unwrap_err().kind, ErrorKind::Overloaded);
        assert!(limit.enter(user(2)).await.is_ok());
        // A caller that goes away stops waiting.
        places.clear();
        requests.clear();
        assert!(limit.users.lock().is_empty());
        assert_eq!(limit.places.available_permits(), MAX_RENEWALS);
    }

    #[tokio::test]
    async fn all_places_together_are_bounded() {
        let limit = RenewalLimit::default();
        let mut places = Vec::new();
        for number in 0..MAX_RENEWALS {
            places.push(limit.enter(user(number as u128)).await.unwrap());
        }
        assert_eq!(limit.enter(user(9999)).await.unwrap_err().kind, ErrorKind::Overloaded);
        places.pop();
        assert!(limit.enter(user(9999)).await.is_ok());
    }
}
