//! Values of fixed width as ClickHouse's `Native` format has them: little-endian, addresses in
//! network order, UUIDs as two numbers, the high one first.

use flow_common::{Direction, TunnelKind};
use uuid::Uuid;

use crate::record::{FlowEndReason, InitiatorBy};

/// A value that always takes the same number of octets.
pub trait Cell: Copy {
    /// Octets.
    const WIDTH: usize;

    /// Writes it to exactly so many octets.
    fn put(self, out: &mut [u8]);

    /// Reads it from exactly so many octets; none if they are no such value.
    fn get(octets: &[u8]) -> Option<Self>;
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Cell for $number {
            const WIDTH: usize = size_of::<$number>();

            #[inline]
            fn put(self, out: &mut [u8]) {
                out.copy_from_slice(&self.to_le_bytes());
            }

            #[inline]
            fn get(octets: &[u8]) -> Option<Self> {
                octets.try_into().ok().map(Self::from_le_bytes)
            }
        }
    )*};
}

numbers!(u8, u16, u32, u64);

impl Cell for [u8; 16] {
    const WIDTH: usize = 16;

    #[inline]
    fn put(self, out: &mut [u8]) {
        out.copy_from_slice(&self);
    }

    #[inline]
    fn get(octets: &[u8]) -> Option<Self> {
        octets.try_into().ok()
    }
}

impl Cell for Uuid {
    const WIDTH: usize = 16;

    #[inline]
    fn put(self, out: &mut [u8]) {
        let (high, low) = self.as_u64_pair();
        out[..8].copy_from_slice(&high.to_le_bytes());
        out[8..].copy_from_slice(&low.to_le_bytes());
    }

    #[inline]
    fn get(octets: &[u8]) -> Option<Self> {
        let (high, low) = octets.split_at_checked(8)?;
        Some(Self::from_u64_pair(u64::get(high)?, u64::get(low)?))
    }
}

/// Enums of one octet; `$find` gives the value of a number.
macro_rules! enums {
    ($($kind:ty, $find:expr;)*) => {$(
        impl Cell for $kind {
            const WIDTH: usize = 1;

            #[inline]
            fn put(self, out: &mut [u8]) {
                out[0] = self as u8;
            }

            #[inline]
            fn get(octets: &[u8]) -> Option<Self> {
                let [number] = *octets else { return None };
                let found: Option<Self> = $find(number);
                found.filter(|found| *found as u8 == number)
            }
        }
    )*};
}

enums! {
    Direction, |number| Some(Direction::from_number(number));
    TunnelKind, |number| Some(TunnelKind::from_number(u32::from(number)));
    FlowEndReason, FlowEndReason::from_number;
    InitiatorBy, InitiatorBy::from_number;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_two_little_endian_numbers() {
        let id = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
        let mut octets = [0; 16];
        id.put(&mut octets);
        assert_eq!(octets[..8], [0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x00]);
        assert_eq!(Uuid::get(&octets), Some(id));
        assert_eq!(Uuid::get(&octets[1..]), None);
    }

    #[test]
    fn a_number_that_is_no_value_is_none() {
        assert_eq!(FlowEndReason::get(&[5]), Some(FlowEndReason::LackOfResources));
        assert_eq!(FlowEndReason::get(&[0]), None);
        assert_eq!(InitiatorBy::get(&[5]), None);
        assert_eq!(Direction::get(&[3]), None);
        assert_eq!(TunnelKind::get(&[6]), None);
        assert_eq!(TunnelKind::get(&[5]), Some(TunnelKind::GtpU));
    }
}
