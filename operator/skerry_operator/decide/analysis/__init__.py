"""What measurements say of a revision: samples and reports in, a verdict out."""
