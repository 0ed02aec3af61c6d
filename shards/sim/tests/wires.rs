//! What the exchange is told of its peers' connections is what its driver could tell it.

use webrocket_sim::{
    chance::Chance,
    exchange::{Around, ExchangeDriver},
    net::Net,
    oracles::Ledger,
    scenario::Scenario,
    theme::Theme,
};
use webrocket_state::{
    Directory, Exchange, VhostId,
    exchange::{ExchangeConfig, Pass},
};

/// How many connections have the same name, one after the other.
const WIRES: usize = 4;
/// Within so many turns all of them have been told.
const TURNS_MAX: usize = 1000;

/// A name is one connection's at a time: the end of a later one, of which nothing was ever heard, is not
/// taken for the end of the one before it.
#[test]
fn connections_with_one_name_end_in_their_order() {
    for seed in 0..20 {
        let mut chance = Chance::new(seed);
        let scenario = Scenario::draw(&mut chance, Some(Theme::Work), Some(1));
        let (mut net, mut ledger) = (Net::new(1, 64, 1, None), Ledger::default());
        let mut exchange =
            ExchangeDriver::new(1, Exchange::new(ExchangeConfig { directory: Directory::new(1, 1) }));
        for _ in 0..WIRES {
            let pass = Pass { vhost: VhostId(0), generation: 1 };
            let wire = net.wires.connect(b"worker".to_vec(), pass, 1);
            net.wires.all[wire].is_cut = true;
        }
        for _ in 0..TURNS_MAX {
            if net.wires.find(b"worker").is_none() {
                break;
            }
            exchange.turn(&mut Around {
                net: &mut net,
                chance: &mut chance,
                scenario: &scenario,
                ledger: &mut ledger,
            });
            let told: Vec<_> = net.wires.all.iter().map(|wire| wire.is_told).collect();
            assert!(told.is_sorted_by(|before, after| before >= after), "seed {seed}: {told:?}");
        }
        assert!(net.wires.find(b"worker").is_none(), "seed {seed}: some end was never told");
    }
}
