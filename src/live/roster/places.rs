//! Endpoints come and go. A service may have a thousand of them, and requests wait for the lock meanwhile: no
//! endpoint is compared with each of the others, and what takes long is done before it or after it.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Endpoint, Health, Member, Place, Roster};
use crate::plan::SocketAddress;

/// What becomes of one place.
struct Wanted {
    weight: u32,
    /// Where none is there yet that may serve the requests that go there now.
    endpoint: Option<Arc<Endpoint>>,
}

impl Roster {
    /// The endpoints are now these. Those that stay keep what was learnt of them, those that are gone
    /// take no new request and close their idle connections (rules 68, 81). Connections that were made
    /// under other certificates are not used for new requests (rule 69).
    pub fn set(&self, places: &[Place]) {
        let mut placed = self.placed.lock();
        if *placed == places {
            return;
        }
        let before = placed.iter().map(|place| (&place.address, place));
        let before: HashMap<&SocketAddress, &Place> = before.collect();
        let wanted = places.iter().map(|place| {
            let known = before.get(&place.address);
            let stays = known.is_some_and(|known| known.secured == place.secured);
            let wanted = Wanted {
                weight: place.weight,
                endpoint: (!stays).then(|| Endpoint::new(place, self.workers)),
            };
            (&place.address, wanted)
        });
        let mut wanted: HashMap<&SocketAddress, Wanted> = wanted.collect();
        let mut retired = Vec::with_capacity(placed.len());
        let mut members = self.members.lock();
        for member in &mut members.list {
            let Some(wanted) = wanted.remove(&member.endpoint.address) else {
                member.leaving = true;
                retired.push(Arc::clone(&member.endpoint));
                continue;
            };
            member.weight = wanted.weight;
            let came_back = std::mem::take(&mut member.leaving);
            if came_back && let Some(health) = &mut member.health {
                // There may be something else at that address by now: it is checked anew, too.
                *health = Health::new();
            }
            if let Some(endpoint) = wanted.endpoint {
                retired.push(std::mem::replace(&mut member.endpoint, endpoint));
            }
        }
        let is_checked = members.check.is_some();
        // In their order, for those whose turn it is.
        for place in places {
            let wanted = wanted.remove(&place.address);
            if let Some((endpoint, weight)) =
                wanted.and_then(|one| Some((one.endpoint?, one.weight)))
            {
                let mut member = Member::new(endpoint, weight);
                member.health = is_checked.then(Health::new);
                members.list.push(member);
            }
        }
        let gone = members.take_gone();
        drop(members);
        drop(gone);
        for endpoint in retired {
            endpoint.close_idle();
        }
        *placed = places.to_vec();
        self.changed.notify_one();
    }
}
