//! Decisions, compared with engines that we did not write.

use enforcer_tests::oracle::{CedarPolicies, CelPolicies, Ours, Random, Request, World};

const WORLDS: u64 = 2_000;
const REQUESTS: usize = 50;

#[test]
fn a_hundred_thousand_decisions_equal_those_of_cedar_and_cel() {
    let (mut allowed, mut asked) = (0, 0);
    for seed in 0..WORLDS {
        let mut random = Random::new(seed);
        let world = World::random(&mut random, 6, 3, 5);
        let ours = Ours::new(&world);
        let cedar = CedarPolicies::new(&world).unwrap();
        let cel = CelPolicies::new(&world).unwrap();
        for _ in 0..REQUESTS {
            let request = Request::random(&mut random, &world);

            let decided = ours.allows(&ours.asked(&request));

            let theirs = cedar.allows(&cedar.asked(&request).unwrap());
            let also = cel.allows(&cel.asked(&request).unwrap());
            let rules = &world.routes[request.route];
            assert_eq!((decided, decided), (theirs, also), "seed {seed}: {request:#?}\n{rules:#?}");
            allowed += u32::from(decided);
            asked += 1;
        }
    }
    assert_eq!(asked, 100_000);
    // Neither answer is so rare that its cases were hardly tried.
    assert!((10_000..90_000).contains(&allowed), "{allowed} of {asked} were allowed");
}
