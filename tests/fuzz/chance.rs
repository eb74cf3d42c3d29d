//! Where inputs come from. A test run has the same ones each time: the corpus, and some that a generator
//! of fixed seed draws; else a run could fail by chance on what is none of its change's fault. New ones are
//! drawn where somebody asks for them: cargo-bolero, or a variable of bolero's.

use std::fmt::Debug;
use std::iter::repeat_with;

use bolero::TypeGenerator;
use bolero::generator::bolero_generator::driver::{Options, bytes};

/// How many inputs bolero may draw by itself. Its variables count all the same.
pub(crate) fn iterations() -> usize {
    match std::env::var_os("BOLERO_RANDOM_TEST_TIME_MS") {
        Some(_) => usize::MAX,
        None => 0,
    }
}

/// Gives so many fixed inputs to the target, each of fewer bytes than that.
pub(crate) fn fixed(count: usize, most: usize, mut target: impl FnMut(&[u8])) {
    let mut draw = fastrand::Rng::with_seed(0x6d61_6d70_6172_6f00);
    for _ in 0..count {
        let length = draw.usize(..most);
        let input: Vec<u8> = repeat_with(|| draw.u8(..)).take(length).collect();
        let told = Told(&input);
        target(told.0);
    }
}

/// The same for a target that takes values.
pub(crate) fn fixed_values<T: TypeGenerator + Debug>(
    count: usize,
    most: usize,
    mut target: impl FnMut(&T),
) {
    fixed(count, most, |input| {
        let mut driver = bytes::Driver::new(input, &Options::default());
        if let Some(value) = T::generate(&mut driver) {
            let told = Told(&value);
            target(told.0);
        }
    });
}

/// Tells of an input under which the test has failed.
struct Told<'a, T: Debug + ?Sized>(&'a T);

impl<T: Debug + ?Sized> Drop for Told<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input: {:?}", self.0);
        }
    }
}
