"""The DHT room: Kademlia over authenticated streams, with signed multi-value records."""
