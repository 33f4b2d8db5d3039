//! What a request changes when it succeeds (RFC 9111, 4.4): its target, and what the answer names in
//! `Location` and `Content-Location` on the same host.

use http::header::{CONTENT_LOCATION, LOCATION};
use http::{HeaderMap, Method, StatusCode, Uri};

use crate::errand::may_change;
use crate::key::Target;
use crate::store::Cache;

impl Cache {
    /// Has nothing old used of what a request with `method` has changed, in any scope, as its
    /// answer tells. Cheap for the others.
    pub fn changed(
        &self,
        method: &Method,
        target: Target<'_>,
        status: StatusCode,
        answer: &HeaderMap,
    ) {
        if !may_change(method) || !(status.is_success() || status.is_redirection()) {
            return;
        }
        self.change(target);
        for name in [LOCATION, CONTENT_LOCATION] {
            let told = answer.get(name).and_then(|value| value.to_str().ok());
            if let Some((path, query)) = told.and_then(|told| on_same_host(told, target)) {
                self.change(Target { path: &path, query: query.as_deref(), ..target });
            }
        }
    }
}

/// Path and query of `reference`, if it is on the host of `target` (RFC 3986, 5.2).
fn on_same_host(reference: &str, target: Target<'_>) -> Option<(String, Option<String>)> {
    let reference = reference.split('#').next().unwrap_or_default();
    if reference.contains("://") || reference.starts_with("//") {
        let absolute = match reference.strip_prefix("//") {
            Some(rest) => format!("http://{rest}"),
            None => reference.to_owned(),
        };
        let uri: Uri = absolute.parse().ok()?;
        let is_here = uri.host()?.eq_ignore_ascii_case(target.host);
        return is_here.then(|| (uri.path().to_owned(), uri.query().map(str::to_owned)));
    }
    let (path, query) = match reference.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (reference, None),
    };
    let path = match path {
        "" => target.path.to_owned(),
        path if path.starts_with('/') => path.to_owned(),
        path => {
            let folder = target.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{folder}/{path}")
        }
    };
    Some((without_dots(&path), query))
}

/// The path with `.` and `..` taken (RFC 3986, 5.2.4).
fn without_dots(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_found_from_where_it_is_named_and_only_on_the_same_host() {
        let target = Target { secure: true, host: "a.example", path: "/x/y", query: Some("q") };
        let named = |reference: &str| {
            on_same_host(reference, target).map(|(path, query)| match query {
                Some(query) => format!("{path}?{query}"),
                None => path,
            })
        };

        for (reference, expected) in [
            ("/z", "/z"),
            ("z", "/x/z"),
            ("../z?a=1#f", "/z?a=1"),
            ("./../../../z", "/z"),
            ("", "/x/y"),
            ("?n", "/x/y?n"),
            ("https://A.example:8443/z", "/z"),
            ("//a.example/z", "/z"),
        ] {
            assert_eq!(named(reference).as_deref(), Some(expected), "{reference}");
        }
        for elsewhere in ["https://b.example/z", "//a.example.b/z", "https://a.example@b/z"] {
            assert_eq!(named(elsewhere), None, "{elsewhere}");
        }
    }
}
