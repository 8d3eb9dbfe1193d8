//! Coordinates and great-circle distance.

use thiserror::Error;

/// Mean Earth radius in miles (IUGG mean radius R1, 6,371.0088 km), the radius that the contract fixes.
pub const EARTH_RADIUS_MILES: f64 = 3_958.761_3;

/// A point on Earth in degrees, both parts in range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coordinates {
    latitude: f64,
    longitude: f64,
}

/// Why a pair of numbers is no point on Earth.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum CoordinatesError {
    /// The latitude is out of range or not a number.
    #[error("expected a latitude from -90 to 90 degrees, found {0}")]
    Latitude(f64),
    /// The longitude is out of range or not a number.
    #[error("expected a longitude from -180 to 180 degrees, found {0}")]
    Longitude(f64),
}

impl Coordinates {
    /// A point from latitude and longitude in degrees.
    ///
    /// # Errors
    /// When either is out of range or not a number.
    pub fn new(latitude: f64, longitude: f64) -> Result<Self, CoordinatesError> {
        if !(-90.0..=90.0).contains(&latitude) {
            return Err(CoordinatesError::Latitude(latitude));
        }
        if !(-180.0..=180.0).contains(&longitude) {
            return Err(CoordinatesError::Longitude(longitude));
        }
        Ok(Self { latitude, longitude })
    }

    /// Degrees north, −90 to 90.
    #[must_use]
    pub const fn latitude(self) -> f64 {
        self.latitude
    }

    /// Degrees east, −180 to 180.
    #[must_use]
    pub const fn longitude(self) -> f64 {
        self.longitude
    }

    /// Great-circle distance in miles by the haversine formula, which stays exact for near points.
    #[must_use]
    pub fn miles_to(self, other: Self) -> f64 {
        let (lat1, lat2) = (self.latitude.to_radians(), other.latitude.to_radians());
        let half_dlat = (lat2 - lat1) / 2.0;
        let half_dlon = (other.longitude - self.longitude).to_radians() / 2.0;
        let h = half_dlat.sin().powi(2) + lat1.cos() * lat2.cos() * half_dlon.sin().powi(2);
        // Rounding may carry h past 1 for antipodes, where asin is undefined.
        2.0 * EARTH_RADIUS_MILES * h.clamp(0.0, 1.0).sqrt().asin()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn point(latitude: f64, longitude: f64) -> Coordinates {
        Coordinates::new(latitude, longitude).expect("valid test point")
    }

    #[test]
    fn known_distances() {
        let new_york = point(40.7128, -74.0060);
        let los_angeles = point(34.0522, -118.2437);
        assert!((new_york.miles_to(los_angeles) - 2_445.6).abs() < 1.0);
        assert_eq!(new_york.miles_to(new_york), 0.0);
        let half_way_round = std::f64::consts::PI * EARTH_RADIUS_MILES;
        assert!((point(0.0, 0.0).miles_to(point(0.0, 180.0)) - half_way_round).abs() < 1e-6);
        // Across the date line the short way is taken.
        assert!(point(0.0, 179.9).miles_to(point(0.0, -179.9)) < 14.0);
    }

    #[test]
    fn out_of_range_is_named() {
        assert_eq!(Coordinates::new(90.1, 0.0), Err(CoordinatesError::Latitude(90.1)));
        assert_eq!(Coordinates::new(0.0, -180.5), Err(CoordinatesError::Longitude(-180.5)));
        assert!(Coordinates::new(f64::NAN, 0.0).is_err());
    }

    proptest! {
        #[test]
        fn symmetric_and_bounded(a in -90.0..=90.0, b in -180.0..=180.0, c in -90.0..=90.0, d in -180.0..=180.0) {
            let (p, q) = (point(a, b), point(c, d));
            prop_assert!((p.miles_to(q) - q.miles_to(p)).abs() < 1e-6);
            prop_assert!((0.0..=std::f64::consts::PI * EARTH_RADIUS_MILES + 1e-6).contains(&p.miles_to(q)));
        }
    }
}
