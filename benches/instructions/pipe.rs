//! What both ends of the proxy share: bytes that are read and written as a socket would have it, whole and in
//! one piece.

use std::io::IoSlice;

use tokio::io::ReadBuf;

/// Gives what there is room for of the bytes that were not read yet; false where there are none.
pub(crate) fn read_some(bytes: &[u8], read: &mut usize, buf: &mut ReadBuf<'_>) -> bool {
    let left = &bytes[*read..];
    let some = left.len().min(buf.remaining());
    buf.put_slice(&left[..some]);
    *read += some;
    some > 0
}

/// Takes all that is written, and gives how much that is.
pub(crate) fn take_all(slices: &[IoSlice<'_>], to: &mut Vec<u8>) -> usize {
    let before = to.len();
    for slice in slices {
        to.extend_from_slice(slice);
    }
    to.len() - before
}
