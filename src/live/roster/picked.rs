//! What had narrowed the choice of an endpoint, for whoever asks why it was that one.

use super::{Member, Wish};
use crate::policy::balance::{How, Picked};

/// How the member at that place came to be chosen from so many candidates.
pub(super) fn picked(
    list: &[Member],
    at: usize,
    candidates: usize,
    wish: &Wish<'_>,
    how: How,
) -> Picked {
    let count = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
    let mut picked = Picked {
        how,
        endpoints: count(list.len()),
        ..Picked::ONLY
    };
    // Mostly everyone is a candidate.
    if candidates < list.len() {
        let is_tried = |member: &Member| wish.tried.contains(&member.endpoint.key);
        let present = || list.iter().filter(|member| !member.leaving);
        // Where all that may be used have been tried, none was left aside for that.
        let tried = match is_tried(&list[at]) {
            true => 0,
            false => present().filter(|member| is_tried(member)).count(),
        };
        let all = present().count();
        picked.endpoints = count(all);
        picked.tried = count(tried);
        picked.shut = count(all.saturating_sub(tried + candidates));
    }
    picked
}
