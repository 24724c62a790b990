use super::*;
use crate::exposure::certificate::{covers, subject_alt_names};
use kubebyon_api::types::HostPattern;
use proptest::prelude::*;

fn host(text: &str) -> Hostname {
    text.parse().unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

const NOTHING: Seen<'static> = Seen {
    san_served: false,
    routed: &[],
    route_accepted: false,
    probe_ok: false,
};

#[test]
fn what_is_remembered_replaces_what_somebody_wrote() {
    let name = host("new.example.com");
    let names = Names::new(name.clone(), Some(name.clone()), []);
    let memory = names.memory();
    let retiring = memory.get(labels::RETIRING_NAMES).map(String::as_str);
    assert_eq!(retiring, Some("[]"));
    assert_eq!(Names::remembered(name, &memory), names);
}

#[test]
fn a_remembered_name_counts_only_when_it_is_vouched_for() {
    let (wanted, published, left) = (
        host("new.example.com"),
        host("old.example.com"),
        host("older.example.com"),
    );
    let retiring = |name: &Hostname| Retiring {
        name: name.clone(),
        since: at(0),
    };
    let stolen = host("console.example.org");
    let names = Names::new(
        wanted.clone(),
        Some(published.clone()),
        [retiring(&left), retiring(&stolen)],
    );
    let held = names.clone().only(|name| *name != stolen);
    assert_eq!(
        held,
        Names::new(wanted.clone(), Some(published), [retiring(&left)])
    );
    assert_eq!(names.only(|_| false), Names::new(wanted, None, []));
}

#[test]
fn the_first_name() {
    let new = host("new.example.com");
    let names = Names::new(new.clone(), None, []);
    let routed = [new.clone()];
    // What was seen, what comes next, what the route carries.
    for (seen, step, route) in [
        (NOTHING, Step::AddSan, None),
        (
            Seen {
                san_served: true,
                ..NOTHING
            },
            Step::AddRouteHostname,
            Some(new.clone()),
        ),
        (
            Seen {
                san_served: true,
                routed: &routed,
                ..NOTHING
            },
            Step::AddRouteHostname,
            Some(new.clone()),
        ),
        (
            Seen {
                san_served: true,
                routed: &routed,
                route_accepted: true,
                probe_ok: false,
            },
            Step::Probe,
            Some(new.clone()),
        ),
        (
            Seen {
                san_served: true,
                routed: &routed,
                route_accepted: true,
                probe_ok: true,
            },
            Step::SwitchKubeconfig,
            Some(new.clone()),
        ),
    ] {
        assert_eq!(names.next(&seen), step, "{seen:?}");
        assert_eq!(
            names.routed(&seen, at(0)),
            route.map(Hostnames::from),
            "{seen:?}"
        );
    }
}

#[test]
fn a_change_in_order() {
    let (old, new) = (host("old.example.com"), host("new.example.com"));
    let names = Names::new(new.clone(), Some(old.clone()), []);
    let (before, both) = ([old.clone()], [new.clone(), old.clone()]);
    let seen = |san_served, routed, route_accepted, probe_ok| Seen {
        san_served,
        routed,
        route_accepted,
        probe_ok,
    };
    for (seen, step, route) in [
        // A probe that succeeds before its turn counts for nothing.
        (
            seen(false, &before[..], true, true),
            Step::AddSan,
            &before[..],
        ),
        (
            seen(true, &before, true, true),
            Step::AddRouteHostname,
            &both,
        ),
        (
            seen(true, &both, false, true),
            Step::AddRouteHostname,
            &both,
        ),
        (seen(true, &both, true, false), Step::Probe, &both),
        (seen(true, &both, true, true), Step::SwitchKubeconfig, &both),
        // The tenant restarts in between: the route stays as it is.
        (seen(false, &both, true, false), Step::AddSan, &both),
    ] {
        assert_eq!(names.next(&seen), step, "{seen:?}");
        assert_eq!(
            names.routed(&seen, at(0)).unwrap().as_slice(),
            route,
            "{seen:?}"
        );
    }

    let done = seen(true, &both, true, true);
    let names = names.after(&done, at(1000));
    assert_eq!(names.published(), Some(&new));
    assert_eq!(names.next(&done), Step::RetireOld { due: at(1600) });
    assert_eq!(names.routed(&done, at(1599)).unwrap().as_slice(), both);
    assert_eq!(names.after(&done, at(1599)), names);
    // While something is wrong with the new name, the old one stays beyond its time.
    let failing = seen(true, &both, true, false);
    assert_eq!(names.next(&failing), Step::Probe);
    assert_eq!(names.routed(&failing, at(9999)).unwrap().as_slice(), both);
    assert_eq!(
        names.routed(&done, at(1600)).unwrap().as_slice(),
        std::slice::from_ref(&new)
    );
    let names = names.after(&done, at(1600));
    assert_eq!(names.next(&done), Step::Done);
    assert_eq!(names.all().collect::<Vec<_>>(), [&new]);
}

#[test]
fn there_and_back_again() {
    let (a, b) = (host("a.example.com"), host("b.example.com"));
    let routed = [a.clone(), b.clone()];
    let seen = Seen {
        san_served: true,
        routed: &routed,
        route_accepted: true,
        probe_ok: true,
    };
    let old = Retiring {
        name: a.clone(),
        since: at(0),
    };
    // Back to a while it is retiring: it is not forgotten before the kubeconfig has switched.
    let names = Names::new(a.clone(), Some(b.clone()), [old]);
    assert_eq!(names.next(&seen), Step::SwitchKubeconfig);
    let names = names.after(&seen, at(60));
    assert_eq!(names.published(), Some(&a));
    assert_eq!(
        names.retiring(),
        [Retiring {
            name: b,
            since: at(60)
        }]
    );
}

#[test]
fn too_many_changes_in_ten_minutes_cost_the_oldest_names() {
    let names = Names::new(
        host("wanted.example.com"),
        Some(host("published.example.com")),
        (0..40).map(|n| Retiring {
            name: host(&format!("n{n}.example.com")),
            since: at(n),
        }),
    );
    let all = names.routed(&NOTHING, at(40)).unwrap();
    assert!(all.as_slice().len() < MAX_HOSTNAMES);
    assert_eq!(all.as_slice()[0], host("published.example.com"));
    assert_eq!(all.as_slice()[1], host("n39.example.com"));
    assert!(!all.as_slice().contains(&host("n0.example.com")));
}

/// What the host cluster and the tenant remember.
#[derive(Clone, Debug, Default)]
struct World {
    values: BTreeSet<HostPattern>,
    served: BTreeSet<HostPattern>,
    route: Vec<Hostname>,
    published: Option<Hostname>,
    retiring: Vec<Retiring>,
    clock: i64,
}

/// What happens around one run of the controller.
#[allow(clippy::struct_excessive_bools)] // Each is a fact of its own.
#[derive(Clone, Debug)]
struct Turn {
    wanted: usize,
    seconds: i64,
    /// The tenant takes up its values.
    serves: bool,
    /// The tenant answers at all.
    answers: bool,
    accepts: bool,
    probe_ok: bool,
    /// The controller dies after this many of its writes.
    writes: usize,
}

fn turn() -> impl Strategy<Value = Turn> {
    let likely = || prop::bool::weighted(0.8);
    (
        0..NAMES.len(),
        0_i64..400,
        likely(),
        likely(),
        likely(),
        likely(),
        0_usize..5,
    )
        .prop_map(
            |(wanted, seconds, serves, answers, accepts, probe_ok, writes)| Turn {
                wanted,
                seconds,
                serves,
                answers,
                accepts,
                probe_ok,
                writes,
            },
        )
}

const NAMES: [&str; 4] = [
    "a.clusters.example.com",
    "b.clusters.example.com",
    "c.example.org",
    "d.deep.clusters.example.com",
];

impl World {
    fn check(&self) -> Result<(), TestCaseError> {
        if let Some(published) = &self.published {
            prop_assert!(
                covers(&self.values, published),
                "not in the values: {self:?}"
            );
            prop_assert!(covers(&self.served, published), "not served: {self:?}");
            prop_assert!(self.route.contains(published), "not routed: {self:?}");
        }
        for old in self
            .retiring
            .iter()
            .filter(|old| at(self.clock) < old.due())
        {
            prop_assert!(
                covers(&self.values, &old.name),
                "not in the values: {self:?}"
            );
            prop_assert!(self.route.contains(&old.name), "left early: {self:?}");
        }
        Ok(())
    }

    /// One run of the controller, write by write.
    fn run(&mut self, turn: &Turn) -> Result<Step, TestCaseError> {
        self.clock += turn.seconds;
        let now = at(self.clock);
        if turn.serves {
            self.served.clone_from(&self.values);
        }
        let names = Names::new(
            host(NAMES[turn.wanted]),
            self.published.clone(),
            self.retiring.clone(),
        );
        let routed = self.route.clone();
        let seen = Seen {
            san_served: turn.answers && covers(&self.served, names.desired()),
            routed: &routed,
            route_accepted: turn.accepts,
            probe_ok: turn.probe_ok,
        };
        let writes: [&dyn Fn(&mut Self); 3] = [
            &|world| {
                let domain = host("clusters.example.com");
                world.values = subject_alt_names(&world.values, &domain, names.all());
            },
            &|world| {
                let route = names.routed(&seen, now);
                world.route = route.map_or_else(Vec::new, |names| names.as_slice().to_vec());
            },
            &|world| {
                let after = names.after(&seen, now);
                world.published = after.published().cloned();
                world.retiring = after.retiring().to_vec();
            },
        ];
        for write in writes.into_iter().take(turn.writes) {
            write(self);
            self.check()?;
        }
        Ok(names.next(&seen))
    }
}

proptest! {
    /// Whatever is seen or missed, wherever a run ends: the published kubeconfig works.
    #[test]
    fn the_published_name_is_always_routed_and_in_the_certificate(turns in prop::collection::vec(turn(), 1..60)) {
        let mut world = World::default();
        for turn in &turns {
            world.run(turn)?;
        }
    }

    /// Once all goes well, the wanted name is published and the others are gone.
    #[test]
    fn it_ends(turns in prop::collection::vec(turn(), 0..40), wanted in 0..NAMES.len()) {
        let mut world = World::default();
        for turn in &turns {
            world.run(turn)?;
        }
        let well = Turn { wanted, seconds: 1, serves: true, answers: true, accepts: true, probe_ok: true, writes: 3 };
        for _ in 0..4 {
            world.run(&well)?;
        }
        prop_assert_eq!(world.published.as_ref(), Some(&host(NAMES[wanted])));
        world.clock += 600;
        world.run(&well)?;
        prop_assert_eq!(world.run(&well)?, Step::Done);
        prop_assert_eq!(&world.route, &[host(NAMES[wanted])]);
        prop_assert!(world.retiring.is_empty());
    }
}
