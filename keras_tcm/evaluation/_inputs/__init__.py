"""What is compared: embeddings and labels of any source, checked and put in order."""
