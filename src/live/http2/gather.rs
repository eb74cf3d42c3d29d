//! Small writes in one piece. A head and a short body come as two slices; copying a few hundred bytes
//! and one plain send cost the system less than a vectored write.

use std::io::IoSlice;
use std::mem::MaybeUninit;

use tokio::io::ReadBuf;

/// Bytes up to which slices are put together: a head and a small body fit, and the copy is cheap.
const GATHERED: usize = 2048;

/// The place to put them together: nothing is written there that is not sent.
pub(super) type Space = [MaybeUninit<u8>; GATHERED];

/// An empty place.
pub(super) const SPACE: Space = [const { MaybeUninit::uninit() }; GATHERED];

/// The slices in one piece, where they fit in the space; `None`: they do not.
pub(super) fn gather<'a>(slices: &[IoSlice<'_>], space: &'a mut Space) -> Option<ReadBuf<'a>> {
    let mut gathered = ReadBuf::uninit(space);
    for slice in slices {
        if slice.len() > gathered.remaining() {
            return None;
        }
        gathered.put_slice(slice);
    }
    Some(gathered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(slices: &[IoSlice<'_>]) -> Option<Vec<u8>> {
        let mut space = SPACE;
        gather(slices, &mut space).map(|gathered| gathered.filled().to_vec())
    }

    #[test]
    fn what_fits_is_put_together_in_order_and_what_does_not_is_left_alone() {
        let slices = [
            IoSlice::new(b"head"),
            IoSlice::new(b""),
            IoSlice::new(b"body"),
        ];
        assert_eq!(gathered(&slices).as_deref(), Some(&b"headbody"[..]));
        let large = vec![7; GATHERED];
        assert_eq!(
            gathered(&[IoSlice::new(&large)]).map(|bytes| bytes.len()),
            Some(GATHERED)
        );
        assert_eq!(gathered(&[IoSlice::new(b"x"), IoSlice::new(&large)]), None);
    }
}
