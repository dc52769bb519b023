"""What people see: pages and documents, made of values. It asks no store and answers no request."""
