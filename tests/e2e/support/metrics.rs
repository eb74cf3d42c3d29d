//! Reading the text format of Prometheus.

/// The sum of all series of that name whose labels hold these; 0 where there is none.
pub(crate) fn value_of(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .filter(|(series, _)| series.split('{').next() == Some(name))
        .filter(|(series, _)| {
            labels
                .iter()
                .all(|(key, value)| has_label(series, key, value))
        })
        .map(|(_, value)| value.parse::<f64>().unwrap_or(f64::NAN))
        .sum()
}

fn has_label(series: &str, key: &str, value: &str) -> bool {
    let wanted = format!("{key}=\"{value}\"");
    series.split_once('{').is_some_and(|(_, labels)| {
        labels
            .trim_end_matches('}')
            .split("\",")
            .any(|one| format!("{}\"", one.trim_end_matches('"')) == wanted)
    })
}
