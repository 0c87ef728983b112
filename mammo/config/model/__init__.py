"""The keys of the network, of its pooling and of its head."""
