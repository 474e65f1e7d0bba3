"""Teachers: who writes the response to a question. `teacher.Teacher` is what one has to be; `programmatic` needs no network."""
