//! Numbers in headers. The standard library's way of writing them is several times as long.

/// A number in decimal digits.
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    digits: [u8; 20],
    begin: u8,
}

impl Decimal {
    /// The digits of that number.
    pub const fn new(mut number: u64) -> Self {
        let mut digits = [0; 20];
        let mut begin = 20;
        loop {
            begin -= 1;
            digits[begin as usize] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return Self { digits, begin };
            }
        }
    }
}

impl AsRef<[u8]> for Decimal {
    fn as_ref(&self) -> &[u8] {
        self.digits.get(self.begin.into()..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_everybody_writes_them() {
        for number in [0, 7, 10, 1_234_567_890, u64::MAX] {
            let written = Decimal::new(number);
            assert_eq!(written.as_ref(), number.to_string().as_bytes());
        }
    }
}
