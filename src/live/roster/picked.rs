//! What had narrowed the choice of an endpoint, for whoever asks why it was that one.

use super::{Member, Wish};
use crate::policy::balance::{How, Picked};

/// How the member at that place came to be chosen from so many candidates; `anyway`: of those that no
/// breaker lets through.
pub(super) fn picked(
    list: &[Member],
    at: usize,
    candidates: usize,
    wish: &Wish<'_>,
    how: How,
    anyway: bool,
) -> Picked {
    let count = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
    let mut picked = Picked {
        how,
        endpoints: count(list.len()),
        anyway,
        ..Picked::ONLY
    };
    // Mostly everyone is a candidate.
    if candidates == list.len() {
        return picked;
    }
    let chosen = &list[at];
    let is_tried = |member: &Member| wish.tried.contains(&member.key);
    // Where all that may be used have been tried, none was left aside for that.
    let fresh_only = !anyway && !is_tried(chosen);
    let (mut all, mut tried, mut unhealthy, mut later) = (0, 0, 0, 0);
    for member in list.iter().filter(|member| !member.leaving) {
        all += 1;
        if fresh_only && is_tried(member) {
            tried += 1;
        } else if member.is_out() {
            unhealthy += 1;
        } else if !anyway && member.rank() > chosen.rank() {
            later += 1;
        }
    }
    picked.endpoints = count(all);
    picked.tried = count(tried);
    picked.unhealthy = count(unhealthy);
    picked.later = count(later);
    picked.shut = count(all.saturating_sub(tried + unhealthy + later + candidates));
    picked
}
