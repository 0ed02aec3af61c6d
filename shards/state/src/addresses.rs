//! How many connections of each vhost come from which address, at the shard that counts it.

use std::{collections::HashMap, net::IpAddr};

use crate::vhost::VhostId;

/// Counts admitted connections; an address without any costs nothing.
#[derive(Debug, Default)]
pub struct AddressCounts(HashMap<(VhostId, IpAddr), u32>);

impl AddressCounts {
    /// Counts one more connection, unless there are `max` already.
    #[must_use]
    pub fn admit(&mut self, vhost: VhostId, address: IpAddr, max: u32) -> bool {
        let count = self.0.entry((vhost, address)).or_default();
        let admitted = *count < max;
        *count += u32::from(admitted);
        if *count == 0 {
            self.0.remove(&(vhost, address));
        }
        admitted
    }

    /// Counts one connection less.
    pub fn dismiss(&mut self, vhost: VhostId, address: IpAddr) {
        let count = self.0.get_mut(&(vhost, address)).expect("only who was admitted is dismissed");
        *count -= 1;
        if *count == 0 {
            self.0.remove(&(vhost, address));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_and_no_more() {
        let mut counts = AddressCounts::default();
        let address = IpAddr::from([127, 0, 0, 1]);
        assert!(counts.admit(VhostId(1), address, 2) && counts.admit(VhostId(1), address, 2));
        assert!(!counts.admit(VhostId(1), address, 2) && counts.admit(VhostId(2), address, 2));
        counts.dismiss(VhostId(1), address);
        assert!(counts.admit(VhostId(1), address, 2));
        for vhost in [1, 1, 2] {
            counts.dismiss(VhostId(vhost), address);
        }
        assert!(counts.0.is_empty());
        assert!(!counts.admit(VhostId(1), address, 0) && counts.0.is_empty());
    }
}
