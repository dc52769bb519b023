"""The catalogue as a file: read, compared with what is kept, put in force and written again."""
