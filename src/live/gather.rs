//! Small writes in one piece. A head and a short body come as two slices; copying a few hundred bytes
//! and one plain send cost the system less than a vectored write.

use std::io::IoSlice;

/// Bytes up to which slices are put together: a head and a small body fit, and the copy is cheap.
pub const GATHERED: usize = 2048;

/// The slices in one piece, where they fit in the buffer; `None`: they do not.
pub fn gather<'a>(slices: &[IoSlice<'_>], buffer: &'a mut [u8; GATHERED]) -> Option<&'a [u8]> {
    let mut end = 0;
    for slice in slices {
        let start = end;
        end += slice.len();
        buffer.get_mut(start..end)?.copy_from_slice(slice);
    }
    Some(&buffer[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_put_together_in_order_and_what_does_not_is_left_alone() {
        let mut buffer = [0; GATHERED];
        let slices = [
            IoSlice::new(b"head"),
            IoSlice::new(b""),
            IoSlice::new(b"body"),
        ];
        assert_eq!(gather(&slices, &mut buffer), Some(&b"headbody"[..]));
        let large = vec![7; GATHERED];
        assert_eq!(
            gather(&[IoSlice::new(&large)], &mut buffer).map(<[u8]>::len),
            Some(GATHERED)
        );
        assert_eq!(
            gather(&[IoSlice::new(b"x"), IoSlice::new(&large)], &mut buffer),
            None
        );
    }
}
