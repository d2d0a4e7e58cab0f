"""Problems: loss, train step, evaluation step, prediction and pictures, one file per problem."""
