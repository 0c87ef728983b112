"""Image files: from a DICOM, PNG, TIFF or JPEG file to grey pixels, the breast in them, and the ROI masks."""
