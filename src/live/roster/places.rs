//! Endpoints come and go. A service may have a thousand of them, and requests wait meanwhile: no endpoint is
//! compared with each of the others.

use std::collections::{HashMap, HashSet};

use super::{Endpoint, Health, Member, Place, Roster};
use crate::plan::SocketAddress;

impl Roster {
    /// The endpoints are now these. Those that stay keep what was learnt of them, those that are gone
    /// take no new request and close their idle connections (rules 68, 81). Connections that were made
    /// under other certificates are not used for new requests (rule 69).
    pub fn set(&self, places: &[Place]) {
        let wanted: HashSet<&SocketAddress> = places.iter().map(|place| &place.address).collect();
        let mut members = self.members.lock();
        let mut known: HashMap<SocketAddress, usize> = HashMap::new();
        for (at, member) in members.list.iter_mut().enumerate() {
            known.insert(member.endpoint.address.clone(), at);
            let is_wanted = wanted.contains(&member.endpoint.address);
            let came_back = member.leaving && is_wanted;
            member.leaving = !is_wanted;
            if came_back && let Some(health) = &mut member.health {
                // There may be something else at that address by now.
                *health = Health::new();
            }
        }
        for place in places {
            let at = known.get(&place.address);
            match at.and_then(|at| members.list.get_mut(*at)) {
                Some(member) => {
                    member.weight = place.weight;
                    if !member.endpoint.is_spoken_to_like(place) {
                        member.endpoint.close_idle();
                        member.endpoint = Endpoint::new(place, self.workers);
                    }
                }
                None => {
                    known.insert(place.address.clone(), members.list.len());
                    let mut member = Member::new(place, self.workers);
                    member.health = members.check.as_ref().map(|_| Health::new());
                    members.list.push(member);
                }
            }
        }
        members.forget_gone();
        self.changed.notify_one();
    }
}
