"""Image files: read DICOM, PNG, TIFF and JPEG files to grey pixels, find the breast, and read ROI masks."""
