//! The policy that the demo tells of and the benches measure, and what they must know of it.

/// The policy; its comments are part of the story.
pub const POLICY: &str = include_str!("../../policies/demo.toml");

/// The name of its API.
pub const NAME: &str = "api.demo.test";

/// Failures after which its rule blocks.
pub const THRESHOLD: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_is_what_the_constants_say() {
        let policy =
            enforcer_policy::Policy::parse(POLICY, std::path::Path::new("demo.toml")).unwrap();

        let failures = policy.rules().first().unwrap().failures.get();
        assert_eq!(usize::try_from(failures).unwrap(), THRESHOLD);
        assert!(policy.route_for(NAME, "/v1/orders").is_some());
    }
}
