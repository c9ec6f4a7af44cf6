"""The ground floor: errors, units, wire format, identity, keystore, ports, storage."""
