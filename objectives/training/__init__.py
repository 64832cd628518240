"""Training networks: minibatches, augmentation, mixing."""
