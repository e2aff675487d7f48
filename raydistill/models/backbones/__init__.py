"""Published classification and segmentation networks, with the parameter names of their files."""
