"""The directed cross-modal mixture of experts."""
