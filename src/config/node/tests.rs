//! What a tree of nodes refuses.

use super::*;

/// What is said of a block of that many different keys, with `again` once more behind them.
fn told(count: usize, again: &str) -> Vec<String> {
    let mut text: String = (0..count).map(|key| format!("k{key}: 1\n")).collect();
    text += &format!("{again}: 2\n");
    let mut report = Report::default();
    let node = parse(&Arc::from("a.yaml"), &text, &|_| None, &mut report);
    assert!(node.is_some());
    let problems = report.finish();
    problems.into_iter().map(|one| one.message).collect()
}

#[test]
fn a_key_that_is_there_twice_is_found_in_small_and_in_large_blocks() {
    for count in [1, FEW, FEW + 1, FEW + 2, 100] {
        for first in [0, count - 1] {
            let message = format!(
                "the key `k{first}` is already set at a.yaml:{}:1",
                first + 1
            );
            assert_eq!(told(count, &format!("k{first}")), [message], "{count}");
        }
        assert_eq!(told(count, "new"), [""; 0], "{count}");
    }
}
