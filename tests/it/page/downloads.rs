//! Downloads of what the filters show.

use serde_json::json;

use super::{Visit, event};

#[test]
fn a_download_has_every_row_that_passes_the_filters_also_those_that_are_not_in_the_document() {
    let message = |n: usize| {
        let source = if n < 30 { "shop-wa" } else { "webhook" };
        let fields = json!({"from": "+1", "to": "+2", "ts": format!("2025-01-15T{:02}:{:02}:00Z", n / 60, n % 60), "text": format!("word {n}")});
        event(source, "message", &format!("m{n:03}"), &fields)
    };
    let mut events: Vec<_> = (0..170).map(message).collect();
    events.push(event("shop-wa", "status", "s1", &json!({"ref": "m000", "type": "read"})));
    let Some(visit) = Visit::start(&events) else { return };
    for (query, rows) in
        [("", 170), ("?source=shop-wa", 30), ("?q=word%201", 81), ("?kind=any", 171), ("?kind=status", 1)]
    {
        visit.open(&format!("/{query}"));
        visit.until("document.querySelectorAll('#list > li').length > 0");
        for (format, kind, extra) in [("ndjson", "application/x-ndjson", 0), ("csv", "text/csv", 1)] {
            let answer = visit.run(
                "const link = document.querySelector(arguments[0]);
                 return fetch(link.href).then(async answer => [answer.status, answer.headers.get('content-type'), \
                 (await answer.text()).trim().split('\\n').length, link.hasAttribute('download')])",
                &[format!("#download-{format}").into()],
            );
            let words = answer[1].as_str().unwrap_or_default();
            assert!(words.starts_with(kind), "{query} {answer}");
            assert_eq!(
                (&answer[0], &answer[2], &answer[3]),
                (&json!(200), &json!(rows + extra), &json!(true)),
                "{query} {format}"
            );
        }
    }
}
